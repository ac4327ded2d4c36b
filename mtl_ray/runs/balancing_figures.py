"""Figures of the balancing of tasks during training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mtl_ray.reporting.figures import curve, heat_map, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "weight": "weight of the task in the loss",
    "loss_ratio": "loss / first loss",
    "grad_norm": "norm of the gradient on the shared representation",
    "cosine": "cosine of two tasks' gradients",
    "conflicting": "share of steps with a conflict",
}
"""Titles of the panels, by the PANEL of the metrics `balance/PANEL/...`."""

History = Mapping[int, Mapping[str, float]]
"""Metrics by epoch."""


def balance_plot(history: History) -> "Figure | None":
    """Draw the weights, losses, gradients and conflicts of the tasks by epoch.

    Returns None if they were not measured (`balancing.diagnostics_every` is 0).
    """
    lines = {panel: found for panel in PANELS if (found := series_of(history, f"balance/{panel}"))}
    if not lines:
        return None
    figure, axes = panels(len(lines), 2)
    for axis, (panel, found) in zip(axes, lines.items(), strict=True):
        for name, values in found.items():
            curve(axis, values, label=name.replace("/", " - "))
        axis.set_title(PANELS[panel])
        if any(found):
            axis.legend(fontsize=8, frameon=False)
    return figure


def conflict_map(history: History) -> "Figure | None":
    """Draw the cosine of each two tasks' gradients in the last epoch, or return None if it was not measured."""
    pairs = series_of(history, "balance/cosine")
    table: dict[str, dict[str, float]] = {name: {} for pair in pairs for name in pair.split("/")}
    for row, name in ((row, name) for row in table for name in table):
        values = pairs.get(f"{row}/{name}") or pairs.get(f"{name}/{row}")
        table[row][name] = list(values.values())[-1] if values else float("nan")
    return heat_map(table, "cosine of two tasks' gradients", ".2f", (-1, 1), "RdBu") if table else None


def expert_map(history: History) -> "Figure | None":
    """Draw the share of each expert in each gate in the last epoch, or return None for a model without gates."""
    table: dict[str, dict[str, float]] = {}
    for key, values in series_of(history, "gate").items():
        gate, _, expert = key.rpartition("/")
        if gate:
            table.setdefault(gate, {})[f"expert {expert}"] = list(values.values())[-1]
    return heat_map(table, "share of each expert", ".2f", (0, 1), "Greys") if table else None


def series_of(history: History, prefix: str) -> dict[str, dict[int, float]]:
    """Return values by epoch for each metric `prefix/REST`, by REST, which is empty for the metric `prefix`."""
    found: dict[str, dict[int, float]] = {}
    for epoch in sorted(history):
        for key, value in history[epoch].items():
            if key == prefix or key.startswith(f"{prefix}/"):
                found.setdefault(key[len(prefix) + 1 :], {})[epoch] = value
    return found
