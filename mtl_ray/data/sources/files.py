"""Parquet and CSV files on any filesystem that pyarrow opens: find them, read them in pieces, identify them."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mtl_ray.data.sources.base import Chunk
from mtl_ray.data.sources.csv_files import MALFORMED, CsvChunk, File
from mtl_ray.errors import InputError
from mtl_ray.storage import absolute, refuse_pickles

DELIMITERS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
SUFFIXES = (".parquet", *DELIMITERS)
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
        """Name of the file."""
        return self.source.name

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield tables of consecutive rows, with the types of the file. Raises InputError if they cannot be read."""
        first = self.first_row
        groups = range(self.first_group, self.first_group + self.num_groups)
        with pq.ParquetFile(self.source.path, filesystem=self.source.filesystem) as file:
            batches = file.iter_batches(ROWS_PER_TABLE, groups, self.columns and list(self.columns))
            while (batch := self._next(batches)) is not None:
                if len(batch):
                    yield first, pa.table(batch)
                    first += len(batch)

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        try:
            return next(batches, None)
        except pa.ArrowException as error:
            raise InputError(
                f"{self.file}: expected rows that pyarrow reads, found {' '.join(str(error).split())}; if it holds "
                "fixed-size lists of which some are null, write them as variable lists"
            ) from error


@dataclass(frozen=True)
class Log:
    """A log that has been found but not read."""

    chunks: list[Chunk]
    columns: tuple[str, ...]
    num_rows: int
    """Exact for Parquet, a guess from the bytes for CSV."""


def open_log(*paths: str, columns: Sequence[str] | None = None) -> Log:
    """Open the log in these files, folders and globs; with `columns`, only those of them that it has.

    Raises:
        InputError: nothing is there, no row is there, or the files differ in format or columns.
    """
    files = find_files(*paths)
    logs = [(_open_parquet if _suffix(file) == ".parquet" else _open_csv)(file, columns) for file in files]
    expected = logs[0].columns
    for file, log in zip(files, logs, strict=True):
        if set(log.columns) != set(expected):
            raise InputError(
                f"{file.path}: expected the columns of {files[0].path} ({', '.join(expected)}), "
                f"found {', '.join(log.columns)}; keep only files of one log together"
            )
    num_rows = sum(log.num_rows for log in logs)
    if not num_rows:
        raise InputError(
            f"empty log: expected at least one row in {', '.join(paths)}, found none; give a log with rows"
        )
    return Log([chunk for log in logs for chunk in log.chunks], expected, num_rows)


def read_table(*paths: str) -> pa.Table:
    """Read a whole side table. Columns of CSV files are strings.

    Raises:
        InputError: nothing is there, no row is there, or a line of a CSV file is malformed.
    """
    tables = []
    for chunk in open_log(*paths).chunks:
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
    """Return a digest of the files' names and content; it depends neither on their folders nor on their order."""
    with ThreadPoolExecutor(8) as pool:
        lines = sorted(f"{file.name} {digest}" for file, digest in zip(files, pool.map(_digest, files), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest(file: File) -> str:
    digest = hashlib.sha256()
    with file.filesystem.open_input_stream(file.path, compression=None) as stream:
        while block := stream.read(4 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_files(*paths: str) -> list[File]:
    """Find the files that paths, folders or globs (`*`, `?`, `[]` within a part of the path) name.

    A folder stands for the files below it that have a known suffix, except those whose path below it has a part that
    begins with a dot or an underscore. The files of each path are sorted.

    Raises:
        InputError: nothing is there, a suffix is not known, or Parquet and CSV files are mixed.
    """
    files = [file for path in paths for file in _find(path)]
    if len({_suffix(file) == ".parquet" for file in files}) > 1:
        raise InputError(
            f"{', '.join(paths)}: expected Parquet files or CSV files, found both; give one of them, for example "
            "with a glob such as `log/*.parquet`"
        )
    return files


def _find(path: str) -> list[File]:
    location, query = absolute(path), ""
    wild = "*["
    if "://" in location:
        location, question_mark, query = location.partition("?")
        query = question_mark + query
    else:
        wild += "?"
    parts = location.split("/")
    # A name that exists is not a glob, whatever characters it has.
    wild = "" if Path(location).exists() else wild
    fixed = next((i for i, part in enumerate(parts) if any(sign in part for sign in wild)), len(parts))
    pattern = parts[fixed:]
    try:
        filesystem, root = pafs.FileSystem.from_uri(("/".join(parts[:fixed]) or "/") + query)
        info = filesystem.get_file_info(root)
        if info.type == pafs.FileType.File and not pattern:
            return [_known(File(root, filesystem))]
        if info.type != pafs.FileType.Directory:
            raise InputError(f"{path}: expected a file, a folder or a glob, found nothing there; correct the path")
        infos = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{path}: expected a path or URL that pyarrow opens, found {message}; correct it") from error
    files = []
    for found in sorted(i.path for i in infos if i.type == pafs.FileType.File):
        below = found[len(root.rstrip("/")) + 1 :].split("/")
        rest = below[len(pattern) :]
        if len(below) < len(pattern) or not all(map(fnmatchcase, below, pattern)):
            continue
        if pattern and not rest:
            files.append(_known(File(found, filesystem)))
        elif found.endswith(SUFFIXES) and not any(part.startswith((".", "_")) for part in rest):
            files.append(File(found, filesystem))
    if not files:
        raise InputError(f"{path}: expected files that end with {', '.join(SUFFIXES)}, found none; correct the path")
    return files


def _known(file: File) -> File:
    _suffix(file)
    return file


def _suffix(file: File) -> str:
    for suffix in SUFFIXES:
        if file.name.endswith(suffix):
            return suffix
    raise InputError(f"{file.path}: expected a file that ends with {', '.join(SUFFIXES)}; convert or rename it")


def _open_parquet(file: File, columns: Sequence[str] | None) -> Log:
    try:
        with pq.ParquetFile(file.path, filesystem=file.filesystem) as parquet:
            refuse_pickles(parquet.schema_arrow, file.path)
            names = _selected(parquet.schema_arrow.names, columns)
            group_rows = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{file.path}: expected a Parquet file, found what cannot be read ({message})") from error
    chunks: list[Chunk] = []
    first_group, first_row, num_rows = 0, 1, 0
    for group, rows in enumerate(group_rows):
        num_rows += rows
        if num_rows >= ROWS_PER_CHUNK or group == len(group_rows) - 1:
            chunks.append(ParquetChunk(file, first_group, group + 1 - first_group, first_row, names))
            first_group, first_row, num_rows = group + 1, first_row + num_rows, 0
    return Log(chunks, names, sum(group_rows))


def _open_csv(file: File, columns: Sequence[str] | None) -> Log:
    delimiter = DELIMITERS[_suffix(file)]
    size = file.filesystem.get_file_info(file.path).size or 0
    if not size:
        return Log([], tuple(columns or ()), 0)
    names = _selected(CsvChunk(file, delimiter).header(), columns)
    chunk = CsvChunk(file, delimiter, columns=names)
    is_empty = next(chunk.read(), None) is None
    row_bytes = COMPRESSED_BYTES_PER_ROW if file.name.endswith(".gz") else BYTES_PER_ROW
    return Log([chunk], names, 0 if is_empty else max(1, size // row_bytes))


def _selected(names: Sequence[str], columns: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(name for name in names if columns is None or name in columns)
