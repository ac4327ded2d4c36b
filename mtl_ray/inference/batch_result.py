"""The result of a job over raw rows, such as `predict`: a folder of Parquet files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from rich.table import Table

from mtl_ray.reporting.results import Shown
from mtl_ray.storage import Folder

if TYPE_CHECKING:
    import pandas as pd

QUARANTINE = "_quarantine"
"""Folder in the output with the bad rows and the reasons. Readers of Parquet folders skip names that begin with an
underscore."""

SHOWN_ROWS = 5
"""Rows of a result that its text shows."""


@dataclass(frozen=True, repr=False)
class BatchResult(Shown):
    """The result of a job over raw rows.

    Example:
        >>> BatchResult(Folder("predictions"), 3, {"age is not a number": 1}, 250.0).metrics
        {'rows': 3, 'quarantined': 1, 'rows_per_second': 250.0}
    """

    folder: Folder
    num_rows: int
    """Rows read."""
    quarantined: dict[str, int]
    """Rows set aside, by reason."""
    rows_per_second: float
    """Speed of this call, which may have continued an earlier one."""

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of rows, and the speed in rows a second."""
        bad = sum(self.quarantined.values())
        return {"rows": self.num_rows, "quarantined": bad, "rows_per_second": self.rows_per_second}

    def to_frame(self) -> "pd.DataFrame":
        """Return the rows that were written, all of them in memory."""
        tables = [self.folder.read_table(name.rpartition("/")[2]) for name in self.folder.files(".parquet")]
        return pa.concat_tables(tables, promote_options="permissive").to_pandas()

    def table(self) -> Table:
        """Return the first rows that were written as a table."""
        table = Table(title=str(self.folder))
        names = [name.rpartition("/")[2] for name in self.folder.files(".parquet")[:1]]
        first = self.folder.read_table(names[0]).slice(0, SHOWN_ROWS) if names else pa.table({})
        for name in first.column_names:
            table.add_column(name)
        for row in first.to_pylist():
            table.add_row(*map(str, row.values()))
        return table

    def lines(self) -> Iterator[str]:
        """Yield how many rows were read, how fast, and which were set aside."""
        bad = sum(self.quarantined.values())
        yield f"{self.num_rows:,} rows read, {bad:,} bad, {self.rows_per_second:,.0f} rows/s: {self.folder}"
        yield from (f"  {n:,} x {reason} (in {self.folder}/{QUARANTINE})" for reason, n in self.quarantined.items())
