"""A report as one HTML file that works offline: headings, paragraphs, tables and figures, without scripts."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from mtl_ray.reporting.figures import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class _Text:
    kind: Literal["heading", "text"]
    text: str


@dataclass(frozen=True)
class _Table:
    rows: list[list[str]]
    """The first one is the header."""
    numeric: list[bool]
    """Per column: whether it holds numbers, which are aligned to the right."""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class _Figure:
    source: str
    """The SVG file, in base64."""
    caption: str
    kind: Literal["figure"] = "figure"


class HtmlReport:
    """A report under construction. The template `report.html` escapes every text."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[_Text | _Table | _Figure] = []
        self.pictures: dict[str, bytes] = {}

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(_Text("heading", text))

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(_Text("text", text))

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table. Every row has as many cells as the header; columns of numbers are aligned to the right."""
        cells = [list(row) for row in rows]
        numeric = [_is_numeric([row[place] for row in cells]) for place in range(len(header))]
        self._parts.append(_Table([list(header), *cells], numeric))

    def figure(self, figure: "Figure", caption: str, name: str = "") -> None:
        """Add a figure, embedded as SVG so that it is sharp at every size.

        Args:
            figure: the drawing.
            caption: text below it, which screen readers read in its place.
            name: also keep the drawing as `NAME.png`, see `files`.
        """
        if name:
            self.pictures[f"{name}.png"] = png(figure)
            figure.set_layout_engine(None)  # the layout is done, and doing it again takes as long as drawing
        self._parts.append(_Figure(base64.b64encode(_svg(figure)).decode(), caption))

    def html(self) -> str:
        """Return the whole file."""
        loader = PackageLoader("mtl_ray.reporting")
        environment = Environment(
            loader=loader,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        return environment.get_template("report.html").render(title=self.title, parts=self._parts)

    def files(self) -> dict[str, bytes]:
        """Return `report.html` and the named pictures, by file name."""
        return {REPORT_FILE: self.html().encode(), **self.pictures}


def _svg(figure: "Figure") -> bytes:
    """Return the drawing as SVG, with equal bytes for equal drawings."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load

    target = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "page"}):
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _is_numeric(cells: Sequence[str]) -> bool:
    """Return whether a column holds numbers, perhaps with gaps, which are empty or `-`."""
    filled = [cell for cell in cells if cell not in ("", "-")]
    return bool(filled) and all(_is_number(cell) for cell in filled)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").removesuffix("%"))
    except ValueError:
        return False
    return True
