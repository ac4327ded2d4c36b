"""Pictures of how the tasks shared the training, drawn without a display."""

from collections.abc import Mapping
from typing import Any

from mtl_ray.canvas import new_figure, png

PANELS = {
    "weight": "weight of the task in the loss",
    "loss_ratio": "loss / first loss",
    "grad_norm": "norm of the gradient on the shared representation",
    "cosine": "cosine of two tasks' gradients",
    "conflicting": "share of steps with a conflict",
}
"""Metrics `balance/PANEL/...` and what they are."""

GATES = "gate/"

History = Mapping[int, Mapping[str, float]]
"""Metrics by epoch."""


def balance_plot(history: History, title: str) -> bytes | None:
    """PNG: over the epochs the weights, losses, gradients and conflicts of the tasks, last cosines, use of experts.

    None where nothing of it was observed (`balancing.diagnostics_every` 0).
    """
    lines = {panel: found for panel in PANELS if (found := series_of(history, f"balance/{panel}"))}
    gates = {key: values for key, values in series_of(history, GATES[:-1]).items() if key != "idle"}
    number = len(lines) + bool(gates) + bool(lines.get("cosine"))
    if not number:
        return None
    figure = new_figure(12.8, 3.4 * -(-number // 2), dpi=110)
    axes = list(figure.subplots(-(-number // 2), 2, squeeze=False).flatten())
    for panel, found in lines.items():
        axis = axes.pop(0)
        for name, values in found.items():
            axis.plot(list(values), list(values.values()), marker="o", markersize=3, label=name.replace("/", " - "))
        axis.set_title(PANELS[panel], fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if any(found):
            axis.legend(fontsize=8, frameon=False)
    if "cosine" in lines:
        _cosines(figure, axes.pop(0), lines["cosine"])
    if gates:
        _gates(figure, axes.pop(0), gates)
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(title)
    return png(figure)


def series_of(history: History, prefix: str) -> dict[str, dict[int, float]]:
    """By the rest of the key after `prefix/` (empty for the key itself), its value by epoch."""
    found: dict[str, dict[int, float]] = {}
    for epoch in sorted(history):
        for key, value in history[epoch].items():
            if key == prefix or key.startswith(f"{prefix}/"):
                found.setdefault(key[len(prefix) + 1 :], {})[epoch] = value
    return found


def _cosines(figure: Any, axis: Any, pairs: Mapping[str, Mapping[int, float]]) -> None:
    """The conflict of each two tasks in the last epoch."""
    tasks = list(dict.fromkeys(name for pair in pairs for name in pair.split("/")))
    table = [[1.0 if a == b else float("nan") for b in tasks] for a in tasks]
    for pair, values in pairs.items():
        a, b = (tasks.index(name) for name in pair.split("/"))
        table[a][b] = table[b][a] = list(values.values())[-1]
    image = axis.imshow(table, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
    axis.set_yticks(range(len(tasks)), tasks)
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", size=8, color="white" if value > 0.6 else "black")
    axis.set_title("cosines in the last epoch: red is conflict", fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.8)


def _gates(figure: Any, axis: Any, gates: Mapping[str, Mapping[int, float]]) -> None:
    """The share of each expert in each gate, in the last epoch."""
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in gates))
    width = max(int(key.rpartition("/")[2]) for key in gates) + 1
    table = [[float("nan")] * width for _ in names]
    for key, values in gates.items():
        name, _, expert = key.rpartition("/")
        table[names.index(name)][int(expert)] = list(values.values())[-1]
    image = axis.imshow(table, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(width), [f"expert {expert}" for expert in range(width)])
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_title("use of the experts in the last epoch", fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.8)
