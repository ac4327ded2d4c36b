"""The report of a comparison: a verdict in words a variant, then the picture, the table and the learning curves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl_ray.comparison.figures import comparison_plot, variant_curves
from mtl_ray.comparison.grid import GridRun, grid
from mtl_ray.comparison.results import HEADER, Comparison, comparison_of, describe_changes
from mtl_ray.config import Experiment
from mtl_ray.errors import InputError
from mtl_ray.reporting.html import HtmlReport
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run


def compare_report(
    comparison: Comparison, cells: Sequence[GridRun], results: Mapping[str, Mapping[str, Any]]
) -> HtmlReport:
    """The report of a finished comparison.

    Args:
        comparison: what was found.
        cells: the grid.
        results: by name of the cell, what `run_cell` returned.
    """
    settings = comparison.settings
    report = HtmlReport(f"{comparison.experiment.name}: comparison")
    for line in verdict(comparison):
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
    figure = variant_curves(comparison, cells, results)
    report.figure(
        figure, "Metrics of the validation rows by epoch, mean over each variant's trainings.", "learning_curves"
    )
    return report


def verdict(comparison: Comparison) -> Iterator[str]:
    """A sentence a variant: where it is better or worse than the baseline, and where nothing was found."""
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
                f"{'' if row.point is None else f' at {row.point:g}'} ({row.difference:+.4f})"
                for row in rows
                if row.verdict == word
            ]
            if found:
                told.append(f"{word} on {', '.join(found)}")
        silent = sum(row.verdict not in ("better", "worse") for row in rows)
        if silent:
            told.append(f"no difference shown on {silent} of {len(rows)} metrics and segments")
        if told:
            yield f"{variant}: {'; '.join(told)}."


def read_results(folder: Folder, cells: Sequence[GridRun]) -> dict[str, dict[str, Any]]:
    """Results of the cells of a comparison that are there, by name."""
    place = folder / "cells"
    return {c.name: place.read_json(f"{c.name}.json") for c in cells if place.exists(f"{c.name}.json")}


def write_report(experiment: Experiment, folder: Folder, run: Run) -> None:
    """Write `report.html` and its pictures into the folder of a comparison that ended, and log them.

    Raises:
        InputError: the comparison did not end.
    """
    cells = grid(experiment)
    results = read_results(folder, cells)
    if len(results) < len(cells):
        raise InputError(
            f"{folder}: {len(results)} of {len(cells)} cells are there, so there is nothing to report; "
            "resume it with --resume"
        )
    run.keep(compare_report(comparison_of(experiment, cells, results), cells, results).files())
