"""Draw figures without a display: the style and the kinds of figures that all reports share."""

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (
    *("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#64b5cd"),
    *("#222222", "#bcbd22", "#17becf", "#7f3c8d", "#f2b701", "#11a579"),
)
BASELINE_MARKERS = {"constant": "_", "item_mean": "x", "user_mean": "+", "popularity": "1"}
"""Markers of the predictions without a model (see `mtl_ray.evaluation.baselines`)."""


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure; sizes are in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to load, and seldom needed
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(number: int, columns: int, width: float = 4.8, height: float = 3.2) -> tuple["Figure", list["Axes"]]:
    """Return a figure of `number` panels, at most `columns` side by side; sizes of a panel are in inches."""
    import matplotlib as mpl  # noqa: PLC0415

    columns = max(1, min(columns, number))
    lines = max(1, math.ceil(number / columns))
    figure = new_figure(width * columns, height * lines)
    cycle = mpl.cycler(color=COLORS)
    with mpl.rc_context(
        {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.prop_cycle": cycle}
    ):
        axes = list(figure.subplots(lines, columns, squeeze=False).flatten())
    for axis in axes[number:]:
        axis.set_axis_off()
    for axis in axes[:number]:
        axis.grid(axis="y", alpha=0.3)
    return figure, axes[:number]


def curve(axis: "Axes", values: Mapping[int, float], **style: Any) -> Any:
    """Draw a line over the epochs, and return it."""
    (line,) = axis.plot(list(values), list(values.values()), marker="o", markersize=3, **style)
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    return line


def heat_map(
    table: Mapping[str, Mapping[str, float]], title: str, form: str, limits: tuple[float, float], colors: str
) -> "Figure":
    """Return a heat map of numbers by row and column, with colours between two limits; absent numbers are white."""
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    values = [[row.get(name, math.nan) for name in columns] for row in table.values()]
    figure = new_figure(2.6 + 0.9 * len(columns), 1.8 + 0.6 * len(table))
    axis = figure.subplots()
    image = axis.imshow(values, cmap=colors, vmin=limits[0], vmax=limits[1], aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axis.set_yticks(range(len(table)), list(table))
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if not math.isnan(value):
                red, green, blue, _ = image.to_rgba(np.array([value]))[0]
                dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
                text = format(value, form)
                axis.text(j, i, text, ha="center", va="center", size=8, color="white" if dark else "black")
    figure.colorbar(image, shrink=0.8)
    axis.set_title(title, fontsize=11)
    return figure


def png(figure: "Figure") -> bytes:
    """Return the figure as a PNG file."""
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()
