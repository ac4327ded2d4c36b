"""The recommended items of a user as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def item_table(items: Sequence[Mapping[str, Any]], task: str) -> Table:
    """Return recommended items as a table for the terminal, with the columns of the first one."""
    result = Table(title=f"by {task}")
    for title in items[0] if items else ():
        result.add_column(title, justify="left" if title == "name" else "right")
    for item in items:
        result.add_row(*(f"{v:z.4f}" if isinstance(v, float) else "-" if v is None else str(v) for v in item.values()))
    return result
