"""Figures of comparisons."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mtl_ray.comparison.grid import GridRun
from mtl_ray.comparison.results import Comparison, Row
from mtl_ray.config.tasks import is_higher_better
from mtl_ray.reporting.figures import BASELINE_MARKERS, COLORS, curve, heat_map, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_plot(comparison: Comparison) -> "Figure":
    """Draw mean and standard deviation of every variant: by segment with a panel per metric, or along the curve."""
    return _curve_plot(comparison) if comparison.settings.curve else _segment_plot(comparison)


def _variants(comparison: Comparison) -> tuple[list[str], list[str]]:
    """Return the trained variants and the predictions without a model that have rows."""
    found = {(row.variant, row.trained) for row in comparison.rows}
    others = dict.fromkeys(row.variant for row in comparison.rows if not row.trained)
    return [v for v in comparison.settings.variants if (v, True) in found], list(others)


def _curve_plot(comparison: Comparison) -> "Figure":
    """Draw a panel per metric and segment, with the points of the curve evenly apart."""
    places = list(dict.fromkeys((row.key, row.segment) for row in comparison.rows))
    trained, others = _variants(comparison)
    points = sorted(comparison.settings.curve)
    paths = dict.fromkeys(path for changes in comparison.settings.curve.values() for path in changes)
    figure, axes = panels(len(places), 2, width=6.4, height=3.6)
    handles = {}
    for axis, (key, segment) in zip(axes, places, strict=False):
        rows = [row for row in comparison.rows if (row.key, row.segment) == (key, segment) and row.point is not None]
        for name, is_trained in [*((v, True) for v in trained), *((v, False) for v in others)]:
            own = {row.point: row.summary for row in rows if (row.variant, row.trained) == (name, is_trained)}
            x = [points.index(point) for point in points if point in own]
            means = [own[points[place]].mean for place in x]
            if is_trained:
                deviations = [own[points[place]].sd or 0 for place in x]
                color = COLORS[trained.index(name) % len(COLORS)]
                handles[name] = axis.errorbar(x, means, deviations, marker="o", markersize=4, capsize=3, color=color)
            else:
                marker = BASELINE_MARKERS[name]
                (handles[f"({name})"],) = axis.plot(x, means, marker=marker, linestyle=":", color="#999999", zorder=1)
        axis.set_xticks(range(len(points)), [f"{point:g}" for point in points])
        axis.set_xlabel(", ".join(paths))
        axis.set_title(f"{key}{'' if segment == 'all' else f' of {segment}'} ({_direction(key)} is better)")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _segment_plot(comparison: Comparison) -> "Figure":
    """Draw a panel per metric, with its segments side by side."""
    keys = list(dict.fromkeys(row.key for row in comparison.rows))
    trained, others = _variants(comparison)
    figure, axes = panels(len(keys), 2, width=6.4, height=3.6)
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
        for variant in others:
            own = {row.segment: row.summary.mean for row in rows if not row.trained and row.variant == variant}
            x = [n + len(trained) / 2 * step for n, s in enumerate(segments) if s in own]
            handles[f"({variant})"] = axis.scatter(
                x, list(own.values()), marker=BASELINE_MARKERS[variant], s=70, color="#999999", zorder=1
            )
        axis.set_xticks(range(len(segments)), [f"{s}\n{_num_rows(rows, s)} rows" for s in segments])
        axis.set_title(f"{key} ({_direction(key)} is better)")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    return figure


def variant_curves(
    comparison: Comparison, grid_runs: Sequence[GridRun], results: Mapping[str, Mapping[str, Any]]
) -> "Figure":
    """Draw a panel per metric: its mean over a variant's trainings, on validation rows, by epoch."""
    keys = list(dict.fromkeys(row.key for row in comparison.rows))
    figure, axes = panels(len(keys), 2, width=6.4)
    handles = {}
    for axis, key in zip(axes, keys, strict=True):
        for color, variant in zip(cycle(COLORS), comparison.settings.variants, strict=False):
            found: dict[int, list[float]] = {}
            for metrics in (m for r in grid_runs if r.variant == variant for m in results[r.name]["history"]):
                if (value := metrics.get(f"valid/{key}")) is not None:
                    found.setdefault(int(metrics["epoch"]), []).append(value)
            if found:
                means = {epoch: fmean(values) for epoch, values in sorted(found.items())}
                handles[variant] = curve(axis, means, color=color)
        axis.set_title(f"{key} ({_direction(key)} is better)")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    return figure


def affinity_map(affinity: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Draw what a step on a task (row) does to the loss of another (column).

    The effect on its own loss is left out, since it is of another size.
    """
    table = {a: {b: math.nan if a == b else affinity[a].get(b, math.nan) for b in affinity} for a in affinity}
    largest = max((abs(v) for row in table.values() for v in row.values() if not math.isnan(v)), default=0.0) or 1.0
    title = "after a step on the row's task\nthe column's loss falls (blue) or rises (red)"
    return heat_map(table, title, "+.1e", (-largest, largest), "RdBu")


def _direction(key: str) -> str:
    return "higher" if is_higher_better(f"split/{key}") else "lower"


def _num_rows(rows: list[Row], segment: str) -> str:
    return f"{max(row.num_rows for row in rows if row.segment == segment):,.0f}"
