"""Chunks that change the columns of another chunk."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from mtl_ray.data.sources.base import Chunk
from mtl_ray.data.sources.types import to_type
from mtl_ray.errors import InputError


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
