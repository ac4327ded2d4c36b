"""The rows of a partition of the log, as the passes of `prepare` and the feature kinds read them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

TRAIN, VALID, TEST, NONE, SHOWN = 0, 1, 2, 3, 4
"""Codes of the splits. NONE is a row that a predefined split does not name, SHOWN one that enters histories alone."""

INTERNAL = "\ufdd1"
"""Begins the names of internal columns that stand beside raw ones; Unicode assigns this code point to no character."""

USER, ITEM, TIME = f"{INTERNAL}user", f"{INTERNAL}item", f"{INTERNAL}time"
"""Columns of a staged row beside its raw ones: the keys as text, the time as a number."""

FILE, ROW = f"{INTERNAL}file", f"{INTERNAL}row"
"""Columns of rows that bring their place in the log: the name of the file, and the number of the row in it."""


@dataclass(frozen=True)
class Partition:
    """Rows of a group of users in a fixed order: by time, then by place in the log."""

    table: pa.Table
    """Keys, time and the raw columns of log and side tables."""
    split: np.ndarray
    """(n,) int8 codes of the split."""
    draw: np.ndarray
    """(n,) the draw of each row, see `row_draw`."""
    duplicates: pa.Table
    """Repeated interactions, as quarantined rows."""
    unknown: dict[str, int]
    """Rows whose entity has no row in a side table."""
    borders: tuple[float, ...] = ()
    """Inner borders, ascending, of the slices of time by which statistics are counted."""
