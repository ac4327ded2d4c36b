"""Parquet and CSV files, on any filesystem that pyarrow opens: how they are found, read in pieces and identified."""

import fnmatch
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mtl_ray.data.sources.raw import Chunk
from mtl_ray.data.storage import absolute
from mtl_ray.errors import InputError

MALFORMED = "_malformed"
"""Extra column of a CSV chunk's tables: the text of a row that could not be read, null for a good one."""

DELIMITERS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
SUFFIXES = (".parquet", *DELIMITERS)
BLOCK_BYTES = 4 << 20
ROWS_PER_TABLE = 100_000
ROWS_PER_CHUNK = 250_000
BYTES_PER_ROW, COMPRESSED_BYTES_PER_ROW = 50, 15
"""Guesses for CSV, whose rows are not counted before they are read."""


@dataclass(frozen=True)
class File:
    """A file somewhere; picklable."""

    path: str
    filesystem: pafs.FileSystem = field(default_factory=pafs.LocalFileSystem)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.filesystem.get_file_info(self.path).size or 0


@dataclass(frozen=True)
class CsvChunk:
    """A whole text file, read in blocks, every column as string; an empty string is null.

    A row that has the wrong number of fields, or bytes that the encoding does not know, keeps its row number: it is a
    row of nulls whose text is in the extra column `_malformed`. Blank lines are not rows.
    """

    source: File
    delimiter: str = ","
    names: tuple[str, ...] | None = None
    """Names of the columns; None takes them from the first line, which then is not a row."""
    columns: tuple[str, ...] | None = None
    """Columns to give; None gives all."""
    encoding: str = "utf8"
    quoting: bool = True
    """Whether a field in double quotes may contain the delimiter and line ends."""

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.source.name

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Tables of consecutive rows.

        Raises:
            InputError: a quote that is opened is not closed within a block, or the file cannot be read.
        """
        malformed: list[tuple[int, str]] = []
        try:
            header = 1 if self.names is None else 0
            columns = self.columns or self.header()
            first = 1
            with self._open(columns, malformed, header) as reader:
                for batch in reader:
                    table = _with_malformed(pa.table(batch), first, malformed)
                    yield first, table
                    first += len(table)
            if malformed:
                nothing = pa.table({name: pa.nulls(0, pa.string()) for name in columns})
                yield first, _with_malformed(nothing, first, malformed)
        except (pa.ArrowInvalid, OSError, UnicodeError) as error:
            raise InputError(f"{self.source.path}: cannot be read as CSV ({_one_line(error)}); mend the file") from error

    def header(self) -> tuple[str, ...]:
        """Names of the file's columns."""
        if self.names is not None:
            return self.names
        with self._open((), [], 1) as reader:
            return tuple(reader.schema.names)

    def _open(self, columns: Sequence[str], malformed: list[tuple[int, str]], header: int) -> pacsv.CSVStreamingReader:
        def invalid(row: pacsv.InvalidRow) -> str:
            malformed.append(((row.number or 0) - header, row.text))
            return "skip"

        # One thread, since only then pyarrow numbers the invalid rows. Bytes, since one value that is not text would
        # end the reading of strings.
        return pacsv.open_csv(
            self.source.filesystem.open_input_stream(self.source.path),
            pacsv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, column_names=self.names, encoding=self.encoding
            ),
            pacsv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if self.quoting else False,
                newlines_in_values=self.quoting,
                invalid_row_handler=invalid,
            ),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.binary()),
                include_columns=list(columns),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )


@dataclass(frozen=True)
class ParquetChunk:
    """Consecutive row groups of a Parquet file."""

    source: File
    first_group: int
    num_groups: int
    first_row: int
    """Row number, in the file, of the first row."""
    columns: tuple[str, ...] | None = None

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.source.name

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Tables of consecutive rows, with the types of the file."""
        first = self.first_row
        groups = range(self.first_group, self.first_group + self.num_groups)
        with pq.ParquetFile(self.source.path, filesystem=self.source.filesystem) as file:
            for batch in file.iter_batches(ROWS_PER_TABLE, groups, self.columns and list(self.columns)):
                if len(batch):
                    yield first, pa.table(batch)
                    first += len(batch)


@dataclass(frozen=True)
class Log:
    """A log that has been found but not read."""

    chunks: list[Chunk]
    columns: tuple[str, ...]
    num_rows: int
    """Exact for Parquet, a guess from the bytes for CSV."""


def open_log(*paths: str, columns: Sequence[str] | None = None) -> Log:
    """The log in these files, folders and globs; of its columns only the given ones, where it has them.

    Raises:
        InputError: nothing is there, no row is there, or the files differ in format or columns.
    """
    files = find_files(*paths)
    chunks: list[Chunk] = []
    num_rows = 0
    names: tuple[str, ...] | None = None
    has_rows = False
    for file in files:
        opened = _open_parquet(file, columns) if _suffix(file) == ".parquet" else _open_csv(file, columns)
        if names is not None and set(opened.columns) != set(names):
            raise InputError(
                f"{file.path}: expected the columns of {files[0].path} ({', '.join(names)}), "
                f"found {', '.join(opened.columns)}; keep files of one log only"
            )
        names = names or opened.columns
        chunks += opened.chunks
        num_rows += opened.num_rows
        has_rows = has_rows or opened.num_rows > 0
    if not has_rows or names is None:
        raise InputError(f"empty log: expected at least one row in {', '.join(paths)}, found none; give a log with rows")
    return Log(chunks, names, num_rows)
