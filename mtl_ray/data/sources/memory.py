"""A log and tables that are in memory: frames of pandas or polars, Arrow tables, data sets of Ray Data."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from mtl_ray.data.preparation.row_digests import row_digests
from mtl_ray.data.sources.base import Chunk, Raw
from mtl_ray.data.sources.chunks import Widened
from mtl_ray.data.sources.files import ROWS_PER_CHUNK, ROWS_PER_TABLE
from mtl_ray.data.sources.types import common_type, to_type
from mtl_ray.errors import InputError, some
from mtl_ray.values.canonical import decoded, plain
from mtl_ray.values.frames import to_arrow
from mtl_ray.values.vectors import is_lists

LOG, USERS, ITEMS = "interactions", "users", "items"
"""Names of the frames in errors. The log's is also that of its file in the quarantine, and in the draws of its rows: a
file of that name would be split in the same way."""


class Held(NamedTuple):
    """Rows that this process holds. The processes of Ray get a reference to a copy in its object store in their place,
    see `preparation.parallel`."""

    table: pa.Table


@dataclass(frozen=True)
class MemoryChunk:
    """Consecutive rows of a log in memory."""

    rows: Any
    """`Held`, or Ray's reference to a table in its object store."""
    first_row: int
    """Row number, in the log, of the first row."""
    file: str = LOG

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield tables of consecutive rows, with the types that the rows have."""
        first = self.first_row
        for table in _slices(_fetched(self.rows)):
            yield first, table
            first += len(table)


def open_source(interactions: Any, users: Any = None, items: Any = None) -> Raw:
    """Open a log and tables in memory; the fingerprint depends on their values and the order of rows alone.

    Args:
        interactions: the log: a pandas or polars frame, an Arrow table, or a data set of Ray Data.
        users: table of user attributes, if there is one.
        items: table of item attributes, if there is one.

    Raises:
        InputError: one of them is no frame, or the log has no rows.
    """
    parts = _parts(interactions, LOG)
    sizes = [len(_fetched(part)) for part in parts]
    if not sum(sizes):
        raise InputError(f"{LOG}: expected a log of at least one row, found none")
    types = _wider_types(parts, LOG)
    chunks: list[Chunk] = []
    first = 1
    for part, size in zip(parts, sizes, strict=True):
        own = _fetched(part).schema
        wider = tuple((name, kind) for name, kind in types.items() if own.field(name).type != kind)
        # Rows of this process are passed on in pieces; Ray's data set comes in pieces that it chose.
        starts = range(0, size, ROWS_PER_CHUNK) if isinstance(part, Held) else range(min(1, size))
        for start in starts:
            rows = Held(part.table.slice(start, ROWS_PER_CHUNK)) if isinstance(part, Held) else part
            chunk = MemoryChunk(rows, first + start)
            chunks.append(Widened(chunk, wider) if wider else chunk)
        first += size
    tables = {name: _whole(frame, name) for name, frame in ((USERS, users), (ITEMS, items)) if frame is not None}
    digests = {LOG: _digest(table for chunk in chunks for _, table in chunk.read())}
    digests |= {name: _digest(_slices(table)) for name, table in tables.items()}
    whole = hashlib.sha256(repr(digests).encode()).hexdigest()
    columns = next(_fetched(part).column_names for part, size in zip(parts, sizes, strict=True) if size)
    return Raw(chunks, columns, first - 1, whole, tables.get(USERS), tables.get(ITEMS))


def _parts(frame: Any, where: str) -> list[Any]:
    """Return the parts of a frame: what this process holds, or references to what Ray holds."""
    ray_data = sys.modules.get("ray.data")  # without it there is no such data set
    if ray_data is not None and isinstance(frame, ray_data.Dataset):
        with _in_order(frame):
            return list(frame.to_arrow_refs())
    return [Held(to_arrow(frame, where))]


@contextmanager
def _in_order(dataset: Any) -> Iterator[None]:
    """Let Ray Data make the blocks of a data set in their order, by which rows are counted."""
    options = dataset.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        yield
    finally:
        options.preserve_order = before


def _fetched(rows: Any) -> pa.Table:
    # Ray is loaded wherever there is a reference of it, and not needed elsewhere.
    return rows.table if isinstance(rows, Held) else sys.modules["ray"].get(rows)


def _wider_types(parts: Sequence[Any], where: str) -> dict[str, pa.DataType]:
    """Return the type of each column that holds the values of all parts; of a single part nothing.

    Raises:
        InputError: the parts differ in columns, or in types that do not go together.
    """
    schemas = [schema for part in parts if len(schema := _fetched(part).schema)]
    if len(schemas) < 2:
        return {}
    expected = schemas[0].names
    if other := next((schema for schema in schemas if set(schema.names) != set(expected)), None):
        raise InputError(f"{where}: expected the columns {some(expected)} in all blocks, found {some(other.names)}")
    found = {name: common_type([schema.field(name).type for schema in schemas]) for name in expected}
    if without := [name for name, kind in found.items() if kind is None]:
        raise InputError(f"{where}: column `{without[0]}`: expected types that go together in all blocks")
    return {name: kind for name, kind in found.items() if kind is not None}


def _whole(frame: Any, where: str) -> pa.Table:
    """Return all rows of a table of users or items."""
    parts = _parts(frame, where)
    types = _wider_types(parts, where)
    tables = [table for part in parts if len(table := _fetched(part))] or [_fetched(parts[0])]
    if len(tables) == 1:
        return tables[0]
    return pa.table({n: pa.chunked_array([to_type(t.column(n), kind) for t in tables]) for n, kind in types.items()})


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    return (table.slice(start, ROWS_PER_TABLE) for start in range(0, len(table), ROWS_PER_TABLE))


def _digest(tables: Iterable[pa.Table]) -> str:
    """Return a digest of the rows of tables, one after the other; whatever library made them, equal values are equal.

    It depends on the names and types of columns, but not on how a library stores the values of a type.
    """
    digest, is_first = hashlib.sha256(), True
    for table in tables:
        columns = [decoded(plain(column)) for column in table.columns]
        if is_first:
            digest.update(repr([*zip(table.column_names, (_name(c.type) for c in columns), strict=True)]).encode())
        digest.update(row_digests(columns).tobytes() if columns else b"")
        is_first = False
    return digest.hexdigest()


def _name(kind: pa.DataType) -> str:
    """Return the name of a type; the fields of lists have other names in each library."""
    return f"list of {_name(kind.value_type)}" if is_lists(kind) else str(kind)
