"""The report of a comparison: a sentence per variant, then the figure, the table and the learning curves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl_ray.comparison.figures import comparison_plot, variant_curves
from mtl_ray.comparison.grid import GridRun, grid
from mtl_ray.comparison.results import HEADER, Comparison, comparison_of, describe_changes
from mtl_ray.comparison.single_task import against_single_task
from mtl_ray.config import Experiment
from mtl_ray.errors import InputError
from mtl_ray.reporting.html import HtmlReport
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tracking.tracked_run import Run


def compare_report(
    comparison: Comparison, grid_runs: Sequence[GridRun], results: Mapping[str, Mapping[str, Any]]
) -> HtmlReport:
    """Return the report of a finished comparison.

    Args:
        comparison: its results.
        grid_runs: the grid.
        results: by name of the run, what `run_single_process` returned.
    """
    settings = comparison.settings
    report = HtmlReport(f"{comparison.experiment.name}: comparison")
    for line in (*against_single_task(comparison, grid_runs), *summary(comparison)):
        report.text(line)
    report.heading("Curves" if settings.curve else "By segment")
    report.figure(
        comparison_plot(comparison),
        f"Mean and standard deviation of each variant on the {settings.split} rows; in grey, predictions without a "
        "model.",
        "comparison",
    )
    report.heading("What was compared")
    report.table(
        ["variant", "changes"],
        [[n, describe_changes(c).replace("`", "")] for n, c in settings.variants.items()]
        + [[f"at {point:g}", describe_changes(c).replace("`", "")] for point, c in settings.curve.items()],
    )
    folds = f"; folds {', '.join(settings.folds)}" if settings.folds else ""
    report.text(f"Seeds {', '.join(map(str, settings.seeds))}{folds}. {comparison.method().replace('`', '')}")
    report.table(HEADER, [row.cells() for row in comparison.rows])
    report.heading("Learning curves")
    figure = variant_curves(comparison, grid_runs, results)
    report.figure(
        figure, "Metrics of the validation rows by epoch, mean over each variant's trainings.", "learning_curves"
    )
    return report


def summary(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence per variant: where it is better or worse than the baseline, and where no difference shows."""
    settings = comparison.settings
    yield (
        f"Each variant is set against {settings.baseline} on the same {settings.split} rows, over "
        f"{len(settings.seeds)} seeds{f' and {len(settings.folds)} folds' if settings.folds else ''}."
    )
    for variant in settings.variants:
        rows = [
            row
            for row in comparison.rows
            if row.trained and row.variant == variant and row.variant != settings.baseline
        ]
        told = []
        for word in ("better", "worse"):
            found = [
                f"{row.key} of {'all rows' if row.segment == 'all' else row.segment}"
                f"{'' if row.point is None else f' at {row.point:g}'} ({row.difference:+z.4f})"
                for row in rows
                if row.outcome == word
            ]
            if found:
                told.append(f"{word} on {', '.join(found)}")
        silent = sum(row.outcome not in ("better", "worse") for row in rows)
        if silent:
            told.append(f"no difference shown on {silent} of {len(rows)} metrics and segments")
        if told:
            yield f"{variant}: {'; '.join(told)}."


def read_results(folder: RunFolder, grid_runs: Sequence[GridRun]) -> dict[str, dict[str, Any]]:
    """Return the results of the runs of a comparison that have finished, by name."""
    files = folder.grid_runs
    return {each.name: files.read(each.name) for each in grid_runs if files.exists(each.name)}


def write_report(experiment: Experiment, folder: RunFolder, run: Run) -> None:
    """Write `report.html` and its pictures into the folder of a finished comparison, and log them.

    Raises:
        InputError: the comparison has not finished.
    """
    grid_runs = grid(experiment)
    results = read_results(folder, grid_runs)
    if len(results) < len(grid_runs):
        raise InputError(
            f"{folder}: {len(results)} of {len(grid_runs)} cells are there, so there is nothing to report; "
            "resume it with --resume"
        )
    report = compare_report(comparison_of(experiment, grid_runs, results), grid_runs, results)
    folder.keep_report(report, run)
