"""Chunks that change the columns of another chunk."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from mtl_ray.config.base import Scalar
from mtl_ray.config.data import DataConfig
from mtl_ray.data.sources.base import Chunk, Raw
from mtl_ray.data.sources.types import to_type
from mtl_ray.errors import InputError, some


@dataclass(frozen=True)
class InFolders:
    """Rows of a file in folders such as `dt=2026-01-01`, with what the folders say as columns of text."""

    rows: Chunk
    values: tuple[tuple[str, str | None], ...]
    """Column and value."""

    @property
    def file(self) -> str:
        """Name of the file within its log."""
        return self.rows.file

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the tables with the columns of the folders."""
        for first, table in self.rows.read():
            more = {name: pa.repeat(pa.scalar(value, pa.string()), len(table)) for name, value in self.values}
            yield first, pa.table({**dict(zip(table.column_names, table.columns, strict=True)), **more})


@dataclass(frozen=True)
class Widened:
    """Rows of a file some of whose columns have a wider type in the whole log."""

    rows: Chunk
    types: tuple[tuple[str, pa.DataType], ...]
    """Column and type."""

    @property
    def file(self) -> str:
        """Name of the file within its log."""
        return self.rows.file

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the tables with the wider types. Raises InputError if a value has no place in one."""
        wider = dict(self.types)
        for first, table in self.rows.read():
            columns = zip(table.column_names, table.columns, strict=True)
            yield first, pa.table({n: self._wider(n, c, wider[n], first) if n in wider else c for n, c in columns})

    def _wider(self, name: str, values: pa.ChunkedArray, kind: pa.DataType, first: int) -> pa.Array:
        try:
            return to_type(values, kind)
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"{self.file}, rows from {first}, column `{name}`: expected {values.type} that fits {kind}, the type "
                f"for all files, found {' '.join(str(error).split())}; convert the file"
            ) from error


@dataclass(frozen=True)
class WithAdded:
    """Rows with columns that the log itself lacks, see `data.row_id` and `data.constants`."""

    rows: Chunk
    row_id: str | None
    constants: tuple[tuple[str, Scalar], ...]
    """Column and value."""

    @property
    def file(self) -> str:
        """Name of the file within its log."""
        return self.rows.file

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the tables with the added columns; the id of a row is its file and its number there."""
        for first, table in self.rows.read():
            more: dict[str, pa.Array] = {}
            if self.row_id is not None:
                rows = range(first, first + len(table))
                more[self.row_id] = pa.array([f"{self.file}:{row}" for row in rows], pa.string())
            more |= {name: pa.repeat(pa.scalar(value), len(table)) for name, value in self.constants}
            yield first, pa.table({**dict(zip(table.column_names, table.columns, strict=True)), **more})


def with_added(raw: Raw, data: DataConfig) -> Raw:
    """Return a data set whose log has the columns that the settings add.

    Raises:
        InputError: the log has a column of that name.
    """
    names = [name for name in (data.row_id, *data.constants) if name is not None]
    if not names:
        return raw
    if taken := [name for name in names if name in raw.columns]:
        raise InputError(
            f"data.{'row_id' if taken[0] == data.row_id else 'constants'}: expected the name of a new column; the log "
            f"has a column `{taken[0]}` (its columns are {some(raw.columns)}); choose another name, or read that one"
        )
    chunks = [WithAdded(chunk, data.row_id, tuple(data.constants.items())) for chunk in raw.chunks]
    return replace(raw, chunks=chunks, columns=(*raw.columns, *names))
