"""The report of a comparison: a verdict in words a variant, then the picture, the table and the learning curves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl_ray.comparison import HEADER, Comparison, describe_changes
from mtl_ray.experiment.grid import Cell
from mtl_ray.page import Page
from mtl_ray.plot import comparison_plot, variant_curves


def compare_report(comparison: Comparison, cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]]) -> Page:
    """The page of a finished comparison.

    Args:
        comparison: what was found.
        cells: the grid.
        results: by name of the cell, what `run_cell` returned.
    """
    settings = comparison.settings
    page = Page(f"{comparison.experiment.name}: comparison")
    for line in verdict(comparison):
        page.text(line)
    page.heading("By segment")
    page.figure(
        comparison_plot(comparison),
        f"Mean and standard deviation of each variant on the {settings.split} rows; grey marks are predictions without "
        "a model.",
        "comparison",
    )
    page.heading("What was compared")
    page.table(
        ["variant", "changes"], [[n, describe_changes(c).replace("`", "")] for n, c in settings.variants.items()]
    )
    folds = f"; folds {', '.join(settings.folds)}" if settings.folds else ""
    page.text(f"Seeds {', '.join(map(str, settings.seeds))}{folds}. {comparison.method().replace('`', '')}")
    page.table(HEADER, [row.cells() for row in comparison.rows])
    page.heading("Learning curves")
    figure = variant_curves(comparison, cells, results)
    page.figure(
        figure, "Metrics of the validation rows by epoch, mean over each variant's trainings.", "learning_curves"
    )
    return page


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
                f"{row.key} of {'all rows' if row.segment == 'all' else row.segment} ({row.difference:+.4f})"
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
