"""Results as a person reads them: numbers as a tidy frame, and as a table for a terminal or a notebook.

The keys of numbers are `split/task/metric[/segment]`; `split/task/count[/segment]` is the number of labelled rows.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mtl_ray.schema import SEGMENTS, segment_key

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("split", "task", "metric", "segment", "value", "rows")
COUNT = "count"
WIDTH = 120
"""Characters of a line of a result's text."""


def metrics_frame(metrics: Mapping[str, float]) -> "pd.DataFrame":
    """Return metrics as a frame with a row per value, in their order.

    Its columns are `COLUMNS`. `segment` is `all` for all rows of the split; `rows` is the number of labelled rows, NA
    where it is not known. Entries with keys of another form, such as the cost of a model, are left out.

    Example:
        >>> metrics_frame({"test/click/count": 80.0, "test/click/auc": 0.75})
          split   task metric segment  value  rows
        0  test  click    auc     all   0.75    80
    """
    import pandas as pd  # noqa: PLC0415 - slow to load, and a result is made without it

    rows = [
        (split, task, metric, segment, value, metrics.get(segment_key(split, task, COUNT, segment)))
        for key, value in metrics.items()
        for split, task, metric, segment in _parts(key)
        if metric != COUNT
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": "float64", "rows": "Int64"})


def metrics_table(
    metrics: Mapping[str, float], title: str, beside: Mapping[str, Mapping[str, float]] | None = None
) -> Table:
    """Return metrics as a table: a row per task and metric, a column per segment.

    Args:
        metrics: of one split.
        title: stands above the table.
        beside: more columns by their titles: numbers of all rows, with the same keys.
    """
    beside = beside or {}
    table = Table(title=title)
    for place, name in enumerate(("task", "metric", *SEGMENTS, *beside)):
        table.add_column(name, justify="left" if place < 2 else "right")
    named = dict.fromkeys((s, t, m) for key in metrics for s, t, m, segment in _parts(key) if segment == "all")
    # The number of rows comes first, since all other numbers of a task rest on it. The loss is for the training.
    for split, task in dict.fromkeys((split, task) for split, task, _ in named):
        own = [metric for s, t, metric in named if (s, t) == (split, task) and metric not in (COUNT, "loss")]
        for metric in (COUNT, *own):
            values = [metrics.get(segment_key(split, task, metric, segment)) for segment in SEGMENTS]
            values += [None if metric == COUNT else more.get(f"{split}/{task}/{metric}") for more in beside.values()]
            shown = "{:,.0f}" if metric == COUNT else "{:z.4f}"
            cells = ("-" if value is None else shown.format(value) for value in values)
            table.add_row(task, "rows" if metric == COUNT else metric, *cells)
    return table


def _parts(key: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield split, task, metric and segment of the key of a metric; nothing for another key."""
    parts = key.split("/")
    if len(parts) in (3, 4):
        split, task, metric, segment = [*parts, "all"][:4]
        yield split, task, metric, segment


class Shown(ABC):
    """A result that shows itself as a table, with lines below it, in a terminal and in a notebook."""

    @abstractmethod
    def table(self) -> Table:
        """Return the table."""

    def lines(self) -> Iterable[str]:
        """Return lines that belong below the table."""
        return ()

    def __repr__(self) -> str:
        table, text = self.table(), io.StringIO()
        if table.row_count:
            Console(file=text, width=WIDTH, force_terminal=False, color_system=None).print(table)
        return "\n".join([line.rstrip() for line in text.getvalue().rstrip().splitlines()] + [*self.lines()])

    def _repr_html_(self) -> str:
        table = self.table()
        below = "".join(f"<p>{escape(line)}</p>" for line in self.lines())
        if not table.row_count:
            return below
        header = "".join(f"<th>{escape(str(column.header))}</th>" for column in table.columns)
        rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        caption = f"<caption>{escape(str(table.title or ''))}</caption>"
        return f"<table>{caption}<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>{below}"
