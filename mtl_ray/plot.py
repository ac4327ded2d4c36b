"""Pictures of results, drawn without a display."""

import math
from collections.abc import Mapping

from mtl_ray.canvas import new_figure, png
from mtl_ray.comparison import Comparison, Row
from mtl_ray.experiment.tasks import is_higher_better

COLUMNS = 2
COLORS = (
    *("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#64b5cd"),
    *("#222222", "#bcbd22", "#17becf", "#7f3c8d", "#f2b701", "#11a579"),
)
MARKERS = ("_", "x", "+", "1")
"""Of the predictions without a model."""


def comparison_plot(comparison: Comparison) -> bytes:
    """PNG: a panel a metric, mean and standard deviation of every variant by segment."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and only a finished comparison is drawn

    keys = list(dict.fromkeys(row.key for row in comparison.rows))
    trained = [
        v for v in comparison.settings.variants if any(row.variant == v and row.trained for row in comparison.rows)
    ]
    others = list(dict.fromkeys(row.variant for row in comparison.rows if not row.trained))
    columns = min(COLUMNS, len(keys)) or 1
    lines = max(1, math.ceil(len(keys) / columns))
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = new_figure(6.4 * columns, 3.4 * lines + 0.8)
        axes = figure.subplots(lines, columns, squeeze=False).flatten()
        handles = {}
        for axis, key in zip(axes, keys, strict=False):
            rows = [row for row in comparison.rows if row.key == key]
            segments = list(dict.fromkeys(row.segment for row in rows))
            step = 0.8 / (len(trained) + 1)
            for place, variant in enumerate(trained):
                own = {row.segment: row.summary for row in rows if row.trained and row.variant == variant}
                x = [n + (place - len(trained) / 2) * step for n, s in enumerate(segments) if s in own]
                handles[variant] = axis.errorbar(
                    x,
                    [own[s].mean for s in segments if s in own],
                    [own[s].sd or 0 for s in segments if s in own],
                    fmt="o",
                    markersize=4,
                    capsize=3,
                    color=COLORS[place % len(COLORS)],
                )
            for place, variant in enumerate(others):
                own = {row.segment: row.summary.mean for row in rows if not row.trained and row.variant == variant}
                x = [n + len(trained) / 2 * step for n, s in enumerate(segments) if s in own]
                handles[f"({variant})"] = axis.scatter(
                    x, list(own.values()), marker=MARKERS[place % len(MARKERS)], s=70, color="#999999", zorder=1
                )
            axis.set_xticks(range(len(segments)), [f"{s}\n{_num_rows(rows, s)} rows" for s in segments])
            axis.set_title(
                f"{key} ({'higher' if is_higher_better(f'split/{key}') else 'lower'} is better)", fontsize=10
            )
            axis.grid(axis="y", alpha=0.3)
        for axis in axes[len(keys) :]:
            axis.set_axis_off()
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle(f"{comparison.experiment.name}: mean and standard deviation, {comparison.settings.split} rows")
        return png(figure)


def heat_map(table: Mapping[str, Mapping[str, float]], title: str) -> bytes:
    """PNG: numbers by row and column as colours around 0; the diagonal, of another size, is left white."""
    names = list(table)
    values = [[math.nan if a == b else table[a].get(b, math.nan) for b in names] for a in names]
    largest = max((abs(v) for row in values for v in row if not math.isnan(v)), default=0.0) or 1.0
    figure = new_figure(2.6 + 0.9 * len(names), 1.8 + 0.7 * len(names))
    axis = figure.subplots()
    image = axis.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("whose loss falls (blue) or rises (red)")
    axis.set_ylabel("after a step on")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if not math.isnan(value):
                dark = abs(value) > 0.6 * largest
                axis.text(j, i, f"{value:+.1e}", ha="center", va="center", size=7, color="white" if dark else "black")
    figure.colorbar(image, shrink=0.8)
    figure.suptitle(title)
    return png(figure)


def _num_rows(rows: list[Row], segment: str) -> str:
    return f"{max(row.num_rows for row in rows if row.segment == segment):,.0f}"
