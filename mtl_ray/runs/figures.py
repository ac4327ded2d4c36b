"""Figures of a training: learning curves, metrics by segment, and calibration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mtl_ray.config import Experiment
from mtl_ray.config.tasks import first_metric, is_higher_better
from mtl_ray.evaluation.baselines import BASELINES
from mtl_ray.inference.evaluate import Evaluation
from mtl_ray.reporting.figures import BASELINE_MARKERS, COLORS, curve, panels
from mtl_ray.schema import SEGMENTS, segment_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEGMENT_TITLES = {
    "all": "all rows",
    "warm": "known users\nand items",
    "new_user": "new users",
    "new_item": "new items",
    "new_both": "both new",
}


def learning_curves(history: Mapping[int, Mapping[str, float]], tasks: Sequence[str], kept: int) -> "Figure":
    """Draw a panel per task: its loss on training and validation rows by epoch, with a line at the kept epoch."""
    figure, axes = panels(len(tasks), 3)
    for axis, task in zip(axes, tasks, strict=True):
        for color, (split, title) in zip(COLORS, (("train", "training"), ("valid", "validation")), strict=False):
            key = f"{split}/{task}/loss"
            values = {epoch: metrics[key] for epoch, metrics in sorted(history.items()) if key in metrics}
            if values:
                curve(axis, values, color=color, label=title)
        axis.set_title(task)
        axis.set_ylabel("loss")
        if axis.lines:
            axis.axvline(kept, color="#999999", linestyle="--", linewidth=1, label="kept")
            axis.legend(fontsize=8, frameon=False)
    return figure


def segment_bars(experiment: Experiment, evaluation: Evaluation) -> "Figure":
    """Draw a panel per task: its first metric by segment with intervals, beside predictions without a model."""
    tasks = experiment.tasks
    figure, axes = panels(len(tasks), 2, width=6.0)
    handles = {}
    for axis, (task, spec) in zip(axes, tasks.items(), strict=True):
        metric = first_metric(spec)
        keys = [key for s in SEGMENTS if (key := segment_key("test", task, metric, s)) in evaluation.metrics]
        names = [s for s in SEGMENTS if segment_key("test", task, metric, s) in keys]
        values = [evaluation.metrics[key] for key in keys]
        lowest = 0.5 if metric in ("auc", "gauc", "micro_auc", "macro_auc") else 0.0
        bars = [value - lowest for value in values]
        handles["model"] = axis.bar(range(len(keys)), bars, 0.55, bottom=lowest, color=COLORS[0], alpha=0.75)
        for place, key in enumerate(keys):
            low, high = evaluation.intervals.get(key, (values[place], values[place]))
            if low < high:
                axis.plot([place, place], [low, high], color="#222222", linewidth=1.5)
            axis.annotate(
                f"{values[place]:z.3f}",
                (place, max(high, values[place])),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
        for name in BASELINES:
            found = {p: v for p, key in enumerate(keys) if (v := evaluation.baselines[name].get(key)) is not None}
            if found:
                x = [place + 0.37 for place in found]
                marker = BASELINE_MARKERS[name]
                handles[name.replace("_", " ")] = axis.scatter(
                    x, list(found.values()), marker=marker, s=60, color="#555555"
                )
        counts = [evaluation.metrics.get(segment_key("test", task, "count", s), 0) for s in names]
        labels = [f"{SEGMENT_TITLES[s]}\n{count:,.0f} rows" for s, count in zip(names, counts, strict=True)]
        axis.set_xticks(range(len(keys)), labels, fontsize=8)
        axis.set_title(
            f"{task}: {metric} ({'higher' if is_higher_better(f'test/{task}/{metric}') else 'lower'} is better)"
        )
        axis.margins(y=0.15)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def calibration_plot(evaluation: Evaluation) -> "Figure | None":
    """Draw a panel per task: mean label against mean prediction, for groups of rows with similar predictions."""
    if not evaluation.calibration:
        return None
    figure, axes = panels(len(evaluation.calibration), 3, width=3.9, height=3.6)
    for axis, (task, bins) in zip(axes, evaluation.calibration.items(), strict=True):
        predicted, observed = [b.predicted for b in bins], [b.observed for b in bins]
        ends = [min(*predicted, *observed), max(*predicted, *observed)]
        axis.plot(ends, ends, color="#999999", linestyle="--", linewidth=1)
        axis.errorbar(
            predicted, observed, [2 * b.error for b in bins], fmt="o", markersize=4, capsize=2, color=COLORS[0]
        )
        axis.set_title(task)
        axis.set_xlabel("predicted")
        axis.set_ylabel("observed")
        axis.grid(alpha=0.3)
    return figure
