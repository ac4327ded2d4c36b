"""The results of a comparison: each variant on each metric and segment, with a paired test against the baseline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from rich.table import Table

from mtl_ray.comparison.grid import GridRun, at_point, compared_metrics
from mtl_ray.config import Experiment
from mtl_ray.config.comparison import CompareConfig
from mtl_ray.config.tasks import is_higher_better
from mtl_ray.evaluation.baselines import BASELINES
from mtl_ray.evaluation.significance import Summary, holm, paired_p, summarize
from mtl_ray.schema import segment_key

Values = dict[str, float]
"""A metric by unit. With several folds, units are folds and values are means over the seeds; otherwise seeds."""

HEADER = ("task", "metric", "segment", "rows", "variant", "mean", "sd", "n", "difference", "p (Holm)", "verdict")
NUMBERS = ("rows", "mean", "sd", "n", "difference", "p (Holm)")


@dataclass(frozen=True)
class Row:
    """One variant on one metric and segment."""

    task: str
    metric: str
    segment: str
    variant: str
    trained: bool
    """False for a prediction without a model (see `mtl_ray.evaluation.baselines`)."""
    num_rows: float
    """Mean number of labelled rows over the units."""
    summary: Summary
    difference: float | None = None
    """Mean difference to the baseline, over the units that have both."""
    p: float | None = None
    p_holm: float | None = None
    """`p` corrected for all tests of the table."""
    outcome: str = ""
    """Outcome of the test: `better`, `worse`, `no evidence`, or why there is no test."""
    point: float | None = None
    """Point of the curve, if there is one."""

    @property
    def label(self) -> str:
        """The variant and its point of the curve; in parentheses if it is not trained."""
        name = at_point(self.variant, self.point)
        return name if self.trained else f"({name})"

    @property
    def key(self) -> str:
        """`TASK/METRIC`."""
        return f"{self.task}/{self.metric}"

    def cells(self) -> list[str]:
        """Return the columns of `HEADER` as texts."""
        mean, sd, n = self.summary.mean, self.summary.sd, self.summary.n
        return [
            self.task,
            self.metric,
            self.segment,
            f"{self.num_rows:,.0f}",
            self.label,
            f"{mean:z.4f}",
            "-" if sd is None else f"{sd:z.4f}",
            str(n),
            "-" if self.difference is None else f"{self.difference:+z.4f}",
            "-" if self.p_holm is None else f"{self.p_holm:.3g}",
            self.outcome,
        ]


@dataclass(frozen=True)
class Comparison:
    """The results of `compare`."""

    experiment: Experiment
    settings: CompareConfig
    rows: list[Row]

    def table(self) -> Table:
        """Return the table for the terminal."""
        result = Table(title=f"{self.experiment.name}: {self.settings.split} rows, against {self.settings.baseline}")
        for title in HEADER:
            result.add_column(title, justify="right" if title in NUMBERS else "left")
        for _, group in groupby(self.rows, key=lambda row: (row.key, row.segment, row.point)):
            for number, row in enumerate(group):
                cells = row.cells()
                result.add_row(*(cells if number == 0 else ["", "", "", "", *cells[4:]]))
            result.add_section()
        return result

    def markdown(self, command: str) -> str:
        """Return the table as a Markdown file that says how it was made."""
        settings = self.settings
        variants = (f"- `{name}`: {describe_changes(changes)}" for name, changes in settings.variants.items())
        folds = f"; folds {', '.join(settings.folds)}" if settings.folds else ""
        points = (f"- at {point:g}: {describe_changes(changes)}" for point, changes in settings.curve.items())
        lines = [
            f"# {self.experiment.name}: comparison",
            "",
            *([f"Made by `{command}`.", ""] if command else []),
            *variants,
            *points,
            "",
            f"Seeds {', '.join(map(str, settings.seeds))}{folds}. {self.method()}",
            "",
            "![mean and deviation of each variant](comparison.png)",
            "",
            f"| {' | '.join(HEADER)} |",
            f"|{'---|' * len(HEADER)}",
            *(f"| {' | '.join(row.cells())} |" for row in self.rows),
        ]
        return "\n".join(lines) + "\n"

    def method(self) -> str:
        """Return the explanation of the columns and of the tests."""
        tests = sum(row.p is not None for row in self.rows)
        unit = "folds, over whose seeds a value is averaged" if len(self.settings.folds) > 1 else "seeds"
        return (
            f"`mean`, `sd` and `n` are over the {unit}. `difference` is to `{self.settings.baseline}` on the same "
            f"data; its p value is of a paired t-test, with Holm's correction for the {tests} tests of this table, and "
            f"below {self.settings.level:g} the verdict is better or worse. Predictions in parentheses need no model."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the results in a form for JSON."""
        keys = (segment_key(self.settings.split, row.task, row.metric, row.segment) for row in self.rows)
        named = zip(keys, self.rows, strict=True)
        metrics = {f"{at_point(row.variant, row.point)}/{key}": row.summary.mean for key, row in named}
        return {
            "settings": self.settings.model_dump(mode="json"),
            "metrics": metrics,
            "rows": [
                {"verdict" if name == "outcome" else name: value for name, value in asdict(row).items()}
                for row in self.rows
            ],
        }


def comparison_of(
    experiment: Experiment, grid_runs: Sequence[GridRun], results: Mapping[str, Mapping[str, Any]]
) -> Comparison:
    """Compare the variants of a grid whose runs have finished.

    Args:
        experiment: has a section `compare`.
        grid_runs: the grid.
        results: by name of the run, what `run_single_process` returned.
    """
    settings = experiment.compare
    assert settings is not None
    rows = []
    for key in compared_metrics(settings, list(grid_runs)):
        for segment in settings.segments:
            for point in settings.curve or (None,):
                found = [(each, results[each.name]) for each in grid_runs if each.point == point]
                rows += [replace(row, point=point) for row in _rows(settings, found, key, segment)]
    corrected = holm({place: row.p for place, row in enumerate(rows) if row.p is not None})
    for place, p in corrected.items():
        rows[place] = replace(rows[place], p_holm=p, outcome=_outcome(rows[place], p, settings.level))
    return Comparison(experiment, settings, rows)


def _rows(
    settings: CompareConfig, found: Sequence[tuple[GridRun, Mapping[str, Any]]], key: str, segment: str
) -> Iterator[Row]:
    """Yield a row for each variant, then for each prediction without a model, that has this metric."""
    task, _, metric = key.partition("/")

    def values(name: str, variant: str) -> Values:
        return _by_unit(settings, [(r, result["metrics"]) for r, result in found if r.variant == variant], name)

    full, count = (segment_key(settings.split, task, name, segment) for name in (metric, "count"))
    variants = [settings.baseline, *(v for v in settings.variants if v != settings.baseline)]
    reference, reference_rows = values(full, settings.baseline), values(count, settings.baseline)
    for variant in variants:
        own, own_rows = values(full, variant), values(count, variant)
        if not own:
            continue
        row = Row(
            task, metric, segment, variant, True, float(np.mean(list(own_rows.values()))), summarize([*own.values()])
        )
        if variant == settings.baseline:
            yield replace(row, outcome="baseline")
        else:
            yield _tested(row, own, reference, same_rows=own_rows == reference_rows)
    for name in BASELINES:
        # All variants have the same rows and labels, so any that has the task will do.
        for variant in variants:
            own = _by_unit(
                settings, [(r, result["baselines"][name]) for r, result in found if r.variant == variant], full
            )
            if own:
                num_rows = float(np.mean(list(values(count, variant).values())))
                yield Row(task, metric, segment, name, False, num_rows, summarize([*own.values()]))
                break


def _by_unit(settings: CompareConfig, found: Sequence[tuple[GridRun, Mapping[str, float]]], key: str) -> Values:
    """Return the metric by unit. Seeds of a fold share its rows, so with several folds the folds are the units."""
    by_unit: dict[str, list[float]] = {}
    for grid_run, metrics in found:
        if key in metrics:
            unit = str(grid_run.fold) if len(settings.folds) > 1 else str(grid_run.seed)
            by_unit.setdefault(unit, []).append(metrics[key])
    return {unit: float(np.mean(values)) for unit, values in by_unit.items()}


def _tested(row: Row, own: Values, reference: Values, *, same_rows: bool) -> Row:
    """Return the row with its difference and uncorrected p value, or the reason why there is none."""
    units = [unit for unit in own if unit in reference]
    if not units:
        return replace(row, outcome="no test: the baseline has no value")
    if not same_rows:
        return replace(row, outcome="no test: other rows than the baseline")
    mine, theirs = [own[u] for u in units], [reference[u] for u in units]
    difference = float(np.mean(np.subtract(mine, theirs)))
    p = paired_p(mine, theirs)
    if p is not None:
        return replace(row, difference=difference, p=p)
    reason = "a single pair" if len(units) < 2 else "equal" if difference == 0 else "differences do not vary"
    return replace(row, difference=difference, outcome=reason if reason == "equal" else f"no test: {reason}")


def _outcome(row: Row, p: float, level: float) -> str:
    assert row.difference is not None
    if p >= level:
        return "no evidence"
    return "better" if (row.difference > 0) == is_higher_better(f"split/{row.key}") else "worse"


def describe_changes(changes: Mapping[str, Any]) -> str:
    """Return what a variant changes, in words."""
    if not changes:
        return "the file as it stands"
    return ", ".join(
        f"`{path}` removed" if value is None else f"`{path}` = `{value}`" for path, value in changes.items()
    )
