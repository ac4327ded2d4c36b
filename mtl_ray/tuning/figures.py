"""Figures of a search: the trade-off, the trials' parameters and their importance, and learning curves."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mtl_ray.config.tuning import ChoiceConfig, LogUniformConfig
from mtl_ray.reporting.figures import COLORS, curve, new_figure, panels
from mtl_ray.tuning.results import INCUMBENT, Tuning
from mtl_ray.tuning.space import parameters_of
from mtl_ray.tuning.trial_store import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#bbbbbb"


def trade_off(tuning: Tuning) -> "Figure":
    """Draw each further objective over the first one: trials, the front, its knee, and the references."""
    first, *others = tuning.objectives
    figure, axes = panels(len(others), 2, width=6.0, height=4.2)
    for axis, key in zip(axes, others, strict=True):
        groups = {
            "stopped, or breaks a constraint": [t for t in tuning.trials if t not in tuning.candidates],
            "trained to the end": [t for t in tuning.candidates if t not in tuning.front],
        }
        for (title, trials), color in zip(groups.items(), (GREY, COLORS[0]), strict=True):
            shown = [t for t in trials if not t.failure and t.best_metrics]
            axis.scatter(
                [t.best_metrics[first] for t in shown],
                [t.best_metrics[key] for t in shown],
                s=18,
                color=color,
                label=title,
            )
        front = sorted(tuning.front, key=lambda trial: trial.best_metrics[first])
        places = [t.best_metrics[first] for t in front], [t.best_metrics[key] for t in front]
        axis.plot(*places, marker="o", color=COLORS[1], label="Pareto front")
        if tuning.best:
            place = tuning.best.best_metrics[first], tuning.best.best_metrics[key]
            axis.scatter(*place, s=140, facecolors="none", edgecolors="#222222", label="suggested")
        for (name, metrics), marker in zip(tuning.references.items(), "xs^v", strict=False):
            if first in metrics and key in metrics:
                axis.scatter(metrics[first], metrics[key], marker=marker, color="#222222", label=name.replace("_", " "))
        axis.set_xlabel(_titled(first, higher=tuning.objectives[first]))
        axis.set_ylabel(_titled(key, higher=tuning.objectives[key]))
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def parallel_coordinates(tuning: Tuning) -> "Figure":
    """Draw a line per trial through its parameters and its first objective, darker for better ones."""
    key, higher = next(iter(tuning.objectives.items()))
    domains = parameters_of(tuning.experiment)
    trials = sorted(
        (t for t in tuning.trials if t.best_metrics and not t.failure),
        key=lambda t: t.best_metrics[key],
        reverse=not higher,
    )
    columns = {name: [_place(domain, trial.params.get(name)) for trial in trials] for name, domain in domains.items()}
    values = np.array([trial.best_metrics[key] for trial in trials])
    spread = np.ptp(values) or 1.0
    columns[key] = ((values - values.min()) / spread).tolist()
    figure = new_figure(1.6 + 1.1 * len(columns), 4.2)
    axis = figure.subplots()
    for number, trial in enumerate(trials):  # the best ones last, on top
        line = [column[number] for column in columns.values()]
        color = COLORS[3] if trial is tuning.best else str(0.85 - 0.75 * number / len(trials))
        axis.plot(range(len(line)), line, color=color, linewidth=1, marker=".", zorder=3 if trial is tuning.best else 2)
    axis.set_xticks(range(len(columns)), list(columns), rotation=30, ha="right", fontsize=8)
    axis.set_yticks([])
    for place, domain in enumerate(domains.values()):
        low, high = _ends(domain)
        axis.annotate(low, (place, -0.04), ha="center", va="top", fontsize=7, annotation_clip=False)
        axis.annotate(high, (place, 1.04), ha="center", va="bottom", fontsize=7, annotation_clip=False)
    last = len(columns) - 1
    axis.annotate(f"{values.max():z.4f}", (last, 1.04), ha="center", va="bottom", fontsize=7)
    axis.annotate(f"{values.min():z.4f}", (last, -0.04), ha="center", va="top", fontsize=7)
    axis.set_ylim(-0.12, 1.12)
    return figure


def importance_bars(importance: Mapping[str, float]) -> "Figure":
    """Draw how much of the first objective's variance each parameter explains."""
    figure, (axis,) = panels(1, 1, width=6.4, height=0.6 + 0.32 * len(importance))
    names = list(importance)[::-1]
    axis.barh(range(len(names)), [importance[name] for name in names], color=COLORS[0])
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel("share of the variance explained")
    return figure


def trial_curves(tuning: Tuning) -> "Figure":
    """Draw the objectives by epoch: stopped trials in grey, the suggested one in red."""
    figure, axes = panels(len(tuning.objectives), 2, width=6.0, height=4.0)
    styles = {
        "stopped": {"color": GREY, "linewidth": 0.9},
        "finished": {"color": COLORS[0], "linewidth": 0.9, "alpha": 0.6},
        "suggested": {"color": COLORS[3], "linewidth": 2.0, "zorder": 5},
    }
    for axis, key in zip(axes, tuning.objectives, strict=True):
        handles = {}
        for trial in tuning.trials:
            values = {epoch: metrics[key] for epoch, metrics in sorted(trial.history.items()) if key in metrics}
            kind = "suggested" if trial is tuning.best else "finished" if trial.state == "finished" else "stopped"
            if values:
                handles[kind] = curve(axis, values, **styles[kind])
        incumbent = tuning.references.get(INCUMBENT, {}).get(key)
        if incumbent is not None:
            handles["incumbent"] = axis.axhline(incumbent, color="#222222", linestyle="--", linewidth=1)
        axis.set_title(_titled(key, higher=tuning.objectives[key]))
        axis.legend(list(handles.values()), list(handles), fontsize=8, frameon=False)
    return figure


def schedule_curves(tuning: Tuning) -> "Figure":
    """Draw a panel per value that a population changes: each trial's by epoch, the suggested one in red."""
    series = {trial.name: _schedule(trial) for trial in tuning.trials}
    names = list(dict.fromkeys(name for own in series.values() for name in own))
    figure, axes = panels(len(names), 3)
    epochs = tuning.experiment.training.epochs
    for axis, name in zip(axes, names, strict=True):
        for trial in tuning.trials:
            values = series[trial.name].get(name, {})
            best = trial is tuning.best
            x, y = [*sorted(values), epochs], [values[e] for e in sorted(values)]
            axis.step(
                x,
                [*y, y[-1]] if y else [math.nan],
                where="post",
                color=COLORS[3] if best else GREY,
                zorder=5 if best else 2,
            )
        axis.set_title(name)
        axis.set_xlabel("epoch")
    return figure


def _schedule(trial: Trial) -> dict[str, dict[int, float]]:
    """Return each task's weights, and the learning rate, by the epoch from which they hold."""
    weights = trial.changes.get("balancing", {}).get("weights", {})
    found = {f"weight of {n}": {int(e): w for e, w in own.items()} for n, own in weights.items()}
    if (rate := trial.changes.get("training.optimizer.lr")) is not None:
        factors = {int(e): rate * f for e, f in trial.changes.get("training.schedule.epochs", {}).items()}
        found["learning rate"] = {0: rate, **factors}
    return found


def _place(domain: object, value: object) -> float:
    """Return the height in [0, 1] of a value. NaN leaves a gap, for a parameter that the trial does not have."""
    if value is None:
        return math.nan
    if isinstance(domain, ChoiceConfig):
        labels = list(domain.values)
        return labels.index(str(value)) / max(1, len(labels) - 1)
    low, high, number = domain.low, domain.high, float(str(value))  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(domain, LogUniformConfig):
        low, high, number = math.log(low), math.log(high), math.log(number)
    return (number - low) / (high - low)


def _ends(domain: object) -> tuple[str, str]:
    if isinstance(domain, ChoiceConfig):
        labels = list(domain.values)
        return labels[0], labels[-1] if len(labels) > 1 else ""
    return f"{domain.low:g}", f"{domain.high:g}"  # pyright: ignore[reportAttributeAccessIssue]


def _titled(key: str, *, higher: bool) -> str:
    return f"{key.removeprefix('valid/')} ({'higher' if higher else 'lower'} is better)"
