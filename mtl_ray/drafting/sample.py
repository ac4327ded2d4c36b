"""A sample of a log: runs of rows from all over it, its last rows among them."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.data.sources.base import Chunk
from mtl_ray.data.sources.csv_dialect import DEFAULT, Dialect
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.data.sources.files import open_log, read_table
from mtl_ray.data.sources.memory import Held, MemoryChunk
from mtl_ray.errors import InputError
from mtl_ray.values.frames import to_arrow

ROWS = 100_000
"""Rows of a sample, roughly."""
RUN = 1_000
"""Rows that are taken together, so that an id is seen again in them if it is in the log."""
CHUNKS, MOST_ROWS = 16, 5_000_000
"""The most pieces of a log, and rows of them, that are read to find a sample."""
COMMA, MOSTLY = r"^\s*[+-]?\d+(,\d+)?\s*$", 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """A log or a side table as it was looked at."""

    shown: str
    """Its path, or what it is called where it is in memory."""
    rows: pa.Table
    """The sample of a log; a side table whole."""
    num_rows: int
    """Rows in all; of CSV a guess from its bytes, unless all were read."""
    path: str | None
    """None if it is in memory."""
    dialect: Dialect = DEFAULT

    @property
    def is_whole(self) -> bool:
        """True if all rows were looked at."""
        return len(self.rows) == self.num_rows


def look_at_log(log: Any) -> Table:
    """Return a sample of a log.

    Args:
        log: a path, a folder, a glob, or a frame of pandas, polars or Arrow.

    Raises:
        InputError: it cannot be read, or has no rows.
    """
    if not isinstance(log, str):
        table = to_arrow(log, "the log")
        rows, _ = _sampled([MemoryChunk(Held(table), 1)], len(table))
        return Table("the log", _with_names(rows, "the log"), len(table), None)
    dialect = DEFAULT
    opened = open_log(log)
    rows, is_whole = _sampled(opened.chunks, opened.num_rows)
    if _has_decimal_commas(rows):
        dialect = Dialect(decimal=",")
        with warnings.catch_warnings(action="ignore"):  # what was recognised has been told
            rows, is_whole = _sampled(open_log(log, dialect=dialect).chunks, opened.num_rows)
    num_rows = len(rows) if is_whole else max(opened.num_rows, len(rows) + 1)
    return Table(log, _with_names(rows, log), num_rows, log, dialect)


def look_at_table(table: Any, entity: str, dialect: Dialect) -> Table:
    """Return a table of users or items.

    Args:
        table: a path or a frame.
        entity: `users` or `items`.
        dialect: how CSV files are written, as the log is.

    Raises:
        InputError: it cannot be read, or has no rows.
    """
    rows = read_table(table, dialect=dialect) if isinstance(table, str) else to_arrow(table, f"the table of {entity}")
    shown = table if isinstance(table, str) else f"the table of {entity}"
    return Table(shown, _with_names(rows, shown), len(rows), table if isinstance(table, str) else None, dialect)


def _with_names(rows: pa.Table, shown: str) -> pa.Table:
    """Return the rows. Raises InputError if there are none, or if the first one stands where names should."""
    if not len(rows):
        raise InputError(f"{shown}: expected rows, found none")
    names = rows.column_names
    numbers = pc.match_substring_regex(pa.array(names, pa.string()), r"^\s*[+-]?\d+([.,]\d+)?\s*$")
    if pc.sum(numbers).as_py() * 2 > len(names):
        raise InputError(
            f"{shown}: expected names of columns in the first line, found {', '.join(names[:5])}; put a line with "
            "names, such as user_id,item_id,rating,timestamp, before it"
        )
    return rows


def _sampled(chunks: Sequence[Chunk], num_rows: int) -> tuple[pa.Table, bool]:
    """Return rows from all over the chunks, and whether these are all rows."""
    chosen = _spread(chunks, CHUNKS)
    step = max(1, math.ceil(num_rows * len(chosen) / len(chunks) / ROWS))
    is_whole = step == 1 and len(chosen) == len(chunks)
    runs: list[pa.Table] = []
    for chunk in chosen:
        last = None
        for place, run in enumerate(_runs(chunk)):
            if place * RUN * len(chosen) >= MOST_ROWS:
                is_whole = False
                break
            last = None if place % step == 0 else run
            if last is None:
                runs.append(run)
        runs += [] if last is None else [last]
    if sum(map(len, runs)) > 2 * ROWS:  # there were more rows than the bytes of the CSV file promised
        runs, is_whole = _spread(runs, ROWS // RUN), False
    names = runs[0].column_names if runs else []
    return pa.concat_tables([run.select(names) for run in runs], promote_options="permissive"), is_whole


def _runs(chunk: Chunk) -> Iterator[pa.Table]:
    """Yield the good rows of a chunk, some at a time."""
    for _, table in chunk.read():
        good = table
        if MALFORMED in table.column_names:
            good = table.filter(table.column(MALFORMED).is_null()).drop_columns([MALFORMED])
        yield from (good.slice(start, RUN) for start in range(0, len(good), RUN))


def _spread(parts: Sequence[T], most: int) -> list[T]:
    """Return at most so many parts at equal distances, the first and the last one among them."""
    if len(parts) <= most:
        return list(parts)
    return [parts[place * (len(parts) - 1) // (most - 1)] for place in range(most)]


def _has_decimal_commas(rows: pa.Table) -> bool:
    """Return whether texts are numbers with a decimal comma: a column that has no other numbers, mostly with one."""
    for column in rows.columns:
        if not pa.types.is_string(column.type) or not (present := len(column) - column.null_count):
            continue
        numbers = pc.sum(pc.match_substring_regex(column, COMMA)).as_py() or 0
        commas = pc.sum(pc.match_substring(column, ",")).as_py() or 0
        if numbers >= MOSTLY * present and 2 * commas > present:
            return True
    return False
