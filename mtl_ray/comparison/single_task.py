"""Rows of a comparison that say whether training several tasks together helps or harms the main one."""

from collections.abc import Iterator, Sequence

from mtl_ray.comparison.grid import GridRun, at_point
from mtl_ray.comparison.results import Comparison, Row
from mtl_ray.config.tasks import first_metric

FLIPPED = {"better": "worse", "worse": "better"}


def against_single_task(comparison: Comparison, grid_runs: Sequence[GridRun]) -> Iterator[str]:
    """Yield a sentence for each pair of a variant with the main task alone and one with others beside it.

    One of the two is the baseline of the comparison: no other pairs are tested.

    Args:
        comparison: its results.
        grid_runs: the grid.
    """
    main, baseline = comparison.experiment.main_task, comparison.settings.baseline
    tasks = {each.variant: list(each.experiment.tasks) for each in grid_runs}
    metric = first_metric(comparison.experiment.tasks[main])
    rows = [
        row
        for row in comparison.rows
        if row.trained and (row.task, row.metric, row.segment) == (main, metric, "all") and main in tasks[row.variant]
    ]
    reference = {row.point: row for row in rows if row.variant == baseline}
    for row in rows:
        base = reference.get(row.point)
        if base is not None and row is not base and (tasks[row.variant] == [main]) != (tasks[baseline] == [main]):
            yield _sentence(row, base, row_is_alone=tasks[row.variant] == [main])


def _sentence(row: Row, base: Row, *, row_is_alone: bool) -> str:
    together, alone = (base, row) if row_is_alone else (row, base)
    outcome = FLIPPED.get(row.outcome, row.outcome) if row_is_alone else row.outcome
    told = f"{outcome} than" if outcome in FLIPPED else "not shown to be better or worse than"
    p = "" if row.p_holm is None else f", p = {row.p_holm:.3g}"
    names = (at_point(each.variant, each.point) for each in (together, alone))
    return (
        f"{row.task}: trained together with other tasks ({next(names)}) it is {told} alone ({next(names)}): "
        f"{row.metric} {together.summary.mean:z.4f} against {alone.summary.mean:z.4f}{p}."
    )
