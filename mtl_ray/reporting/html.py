"""A report as one HTML file that works offline: headings, texts, tables and figures, without scripts."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_ray.reporting.figures import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; color: #222; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
p { margin: .6rem 0; max-width: 44rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 2px solid #bbb; }
.number { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .875rem; max-width: 44rem; }
@media (max-width: 40rem) { body { padding: .7rem; } th, td { padding: .25rem .45rem; }
  figure img { max-width: max(100%, 44rem); } }
@media print { .scroll { overflow: visible; } figure, tr { break-inside: avoid; } }
"""


class Page:
    """Collects the parts of a report in order; every text is escaped."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = []
        self.pictures: dict[str, bytes] = {}

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Cells as texts, as many in each row as in the header; columns of numbers are set to the right."""
        cells = [list(row) for row in rows]
        classes = [
            ' class="number"' if _is_numeric([row[place] for row in cells]) else "" for place in range(len(header))
        ]
        lines = ["<tr>" + "".join(f"<th{c}>{escape(t)}</th>" for t, c in zip(header, classes, strict=True)) + "</tr>"]
        for row in cells:
            lines.append(
                "<tr>" + "".join(f"<td{c}>{escape(t)}</td>" for t, c in zip(row, classes, strict=True)) + "</tr>"
            )
        self.parts.append('<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>")

    def figure(self, figure: "Figure", caption: str, name: str = "") -> None:
        """A drawing, embedded as SVG so that it is sharp at every size; the caption is also its text for the blind.

        With a name it is also kept as a picture of its own, `NAME.png`; see `files`.
        """
        if name:
            self.pictures[f"{name}.png"] = png(figure)
            figure.set_layout_engine(None)  # it is laid out now, which takes as long as to draw it
        source = base64.b64encode(_svg(figure)).decode()
        # In an <img> the drawing has its own names, which those of other drawings cannot meet.
        image = f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(caption)}">'
        self.parts.append(
            f'<figure><div class="scroll">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'
        )

    def html(self) -> str:
        """The whole file."""
        head = (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>"
        )
        body = "\n".join(self.parts)
        return f"{head}\n<body>\n<h1>{escape(self.title)}</h1>\n{body}\n</body>\n</html>\n"

    def files(self) -> dict[str, bytes]:
        """`report.html` and the pictures, by name."""
        return {"report.html": self.html().encode(), **self.pictures}

    def write(self, path: Path) -> None:
        """Write the file aside and rename it."""
        aside = path.with_name(f"{path.name}.partial")
        aside.write_bytes(self.html().encode())
        aside.replace(path)


def _svg(figure: "Figure") -> bytes:
    """The same bytes for the same drawing."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load

    target = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "page"}):
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, perhaps with gaps, which are empty or `-`."""
    filled = [cell for cell in cells if cell not in ("", "-")]
    return bool(filled) and all(_number(cell) for cell in filled)


def _number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").removesuffix("%"))
    except ValueError:
        return False
    return True
