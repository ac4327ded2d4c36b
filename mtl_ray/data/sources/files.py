"""Parquet and CSV files on any filesystem that pyarrow opens: find them, read them in pieces, identify them."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from mtl_ray.data.sources.base import Chunk
from mtl_ray.data.sources.chunks import InFolders, Widened
from mtl_ray.data.sources.csv_dialect import DEFAULT, Dialect, recognise
from mtl_ray.data.sources.csv_files import MALFORMED, CsvChunk
from mtl_ray.data.sources.locate import PARQUET, File, find_files
from mtl_ray.data.sources.types import common_type
from mtl_ray.errors import InputError, first_line, some
from mtl_ray.parquet import refuse_pickles

ROWS_PER_TABLE = 100_000
ROWS_PER_CHUNK = 250_000
BYTES_PER_ROW, COMPRESSED_BYTES_PER_ROW = 50, 15
"""Guesses for CSV, whose rows cannot be counted without reading them."""


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
        """Name of the file within its log."""
        return self.source.shown

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield tables of consecutive rows, with the types of the file. Raises InputError if they cannot be read."""
        first = self.first_row
        groups = range(self.first_group, self.first_group + self.num_groups)
        try:
            with pq.ParquetFile(self.source.path, filesystem=self.source.filesystem) as file:
                for batch in file.iter_batches(ROWS_PER_TABLE, groups, self.columns and list(self.columns)):
                    if len(batch):
                        yield first, pa.table(batch)
                        first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{self.source.path}: expected rows that pyarrow reads, found {' '.join(str(error).split())}; if it "
                "holds fixed-size lists of which some are null, write them as variable lists, else restore the file"
            ) from error


@dataclass(frozen=True)
class Log:
    """A log that has been found but not read."""

    chunks: list[Chunk]
    columns: tuple[str, ...]
    num_rows: int
    """Exact for Parquet, a guess from the bytes for CSV."""
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class _Opened:
    """A file whose columns are known."""

    file: File
    columns: tuple[str, ...]
    num_rows: int
    chunks: list[Chunk]
    types: dict[str, pa.DataType] = field(default_factory=dict)
    """Types of the columns of a Parquet file."""
    notes: tuple[str, ...] = ()


def open_log(*paths: str, columns: Sequence[str] | None = None, dialect: Dialect = DEFAULT) -> Log:
    """Open the log in these files, folders and globs; with `columns`, only those of them that it has.

    Folders such as `dt=2026-01-01` give a column of text. A column of several Parquet files comes in a type that holds
    the values of all of them. A warning tells what was recognised in CSV files.

    Raises:
        InputError: nothing is there, no row is there, or the files differ in format, columns or types.
    """
    files = find_files(*paths)
    opened = [
        _with_folders(
            _open_parquet(file, columns) if file.format == PARQUET else _open_csv(file, columns, dialect), columns
        )
        for file in files
    ]
    logs = [each for each in opened if each.columns or each.num_rows] or opened
    expected, first = logs[0].columns, set(logs[0].columns)
    for log in logs:
        if set(log.columns) != first:
            missing = [name for name in expected if name not in set(log.columns)]
            more = [name for name in log.columns if name not in first]
            raise InputError(
                f"{log.file.path}: expected the columns of {logs[0].file.path} ({some(expected)}), "
                f"found {some(log.columns)} (missing: {some(missing)}; not expected: {some(more)}); keep only files "
                "of one log together"
            )
    num_rows = sum(log.num_rows for log in logs)
    if not num_rows:
        raise InputError(
            f"empty log: expected at least one row in {', '.join(paths)}, found none; give a log with rows"
        )
    _tell(opened)
    return Log([chunk for log in _of_common_types(logs) for chunk in log.chunks], expected, num_rows, tuple(files))


def _tell(opened: Sequence[_Opened]) -> None:
    """Say what was recognised in files, each once."""
    files: dict[str, list[str]] = {}
    for each in opened:
        for note in each.notes:
            files.setdefault(note, []).append(each.file.path)
    for note, paths in files.items():
        more = f" and {len(paths) - 1} more" if paths[1:] else ""
        warnings.warn(f"{paths[0]}{more}: {note}", stacklevel=3)


def read_table(*paths: str, dialect: Dialect = DEFAULT) -> pa.Table:
    """Read a whole side table. Columns of CSV files are strings.

    Raises:
        InputError: nothing is there, no row is there, or a line of a CSV file is malformed.
    """
    tables = []
    for chunk in open_log(*paths, dialect=dialect).chunks:
        for first, table in chunk.read():
            if MALFORMED in table.column_names:
                texts = table.column(MALFORMED)
                if texts.null_count < len(texts):
                    row, text = next((i, t) for i, t in enumerate(texts.to_pylist()) if t is not None)
                    raise InputError(
                        f"{chunk.file}, row {first + row}: expected {table.num_columns - 1} fields of valid text, "
                        f"found `{text}`; mend or remove the row"
                    )
            tables.append(table.select([name for name in table.column_names if name != MALFORMED]))
    return pa.concat_tables([table.select(tables[0].column_names) for table in tables])


def fingerprint(files: Sequence[File]) -> str:
    """Return a digest of the files' names and content; it does not depend on their order.

    Nor does it depend on their folders, unless several files have one name, or the folders give columns.
    """
    with ThreadPoolExecutor(8) as pool:
        names = [file.below if file.partitions else file.shown for file in files]
        lines = sorted(f"{name} {digest}" for name, digest in zip(names, pool.map(_digest, files), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest(file: File) -> str:
    digest = hashlib.sha256()
    try:
        with file.filesystem.open_input_stream(file.path, compression=None) as stream:
            while block := stream.read(4 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{file.path}: expected a file that can be read, found {first_line(error)}") from error
    return digest.hexdigest()


def _open_parquet(file: File, columns: Sequence[str] | None) -> _Opened:
    try:
        with pq.ParquetFile(file.path, filesystem=file.filesystem) as parquet:
            schema, metadata = parquet.schema_arrow, parquet.metadata
            refuse_pickles(schema, file.path)
            group_rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{file.path}: expected a Parquet file, found what cannot be read ({message})") from error
    names = _selected(schema.names, columns)
    chunks: list[Chunk] = []
    first_group, first_row, num_rows = 0, 1, 0
    for group, rows in enumerate(group_rows):
        num_rows += rows
        if num_rows >= ROWS_PER_CHUNK or group == len(group_rows) - 1:
            chunks.append(ParquetChunk(file, first_group, group + 1 - first_group, first_row, names))
            first_group, first_row, num_rows = group + 1, first_row + num_rows, 0
    types = dict(zip(schema.names, schema.types, strict=True))
    return _Opened(file, names, sum(group_rows), chunks, {name: types[name] for name in names})


def _open_csv(file: File, columns: Sequence[str] | None, dialect: Dialect) -> _Opened:
    size = file.filesystem.get_file_info(file.path).size or 0
    if not size:
        return _Opened(file, (), 0, [], notes=("empty, not even a line with the names of columns",))
    found = recognise(file, dialect)
    chunk = CsvChunk(file, found.separator, encoding=found.encoding, quote=dialect.quote)
    chunk = replace(chunk, escape=dialect.escape, decimal=dialect.decimal)
    header = chunk.header()
    names = _selected(header, columns)
    chunk = replace(chunk, first_line=header, columns=names)
    is_empty = next(chunk.read(), None) is None
    row_bytes = COMPRESSED_BYTES_PER_ROW if file.compression else BYTES_PER_ROW
    return _Opened(file, names, 0 if is_empty else max(1, size // row_bytes), [chunk], notes=found.notes)


def _selected(names: Sequence[str], columns: Sequence[str] | None) -> tuple[str, ...]:
    chosen = names if columns is None else set(columns)
    return tuple(names if columns is None else (name for name in names if name in chosen))


def _with_folders(opened: _Opened, columns: Sequence[str] | None) -> _Opened:
    """Add the columns that the names of folders give, unless the file has them itself."""
    own = set(opened.columns)
    names = [n for n in opened.file.partitions if n not in own and (columns is None or n in columns)]
    if not names or not opened.columns:
        return opened
    values = tuple((name, opened.file.partitions[name]) for name in names)
    return replace(
        opened,
        columns=(*opened.columns, *names),
        chunks=[InFolders(chunk, values) for chunk in opened.chunks],
        types={**opened.types, **({name: pa.string() for name in names} if opened.types else {})},
    )


def _of_common_types(files: list[_Opened]) -> list[_Opened]:
    """Let Parquet files give each column in the type that holds the values of all of them."""
    first = files[0].types
    if all(file.types == first for file in files):
        return files
    common = {}
    for name in first:
        kinds = {file.types[name]: file for file in reversed(files)}
        common[name] = common_type(list(dict.fromkeys(file.types[name] for file in files)))
        if common[name] is None:
            known = "; ".join(f"{kind} in {file.file.path}" for kind, file in reversed(kinds.items()))
            raise InputError(
                f"column `{name}`: expected types that go together, found {known}; convert some of the files"
            )
    return [
        replace(file, chunks=[Widened(chunk, different) for chunk in file.chunks])
        if (different := tuple((n, k) for n, k in common.items() if k != file.types[n]))
        else file
        for file in files
    ]
