"""Find the files of a log or a table, on any filesystem that pyarrow opens."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from mtl_ray.data.sources.table_formats import refuse_table_formats
from mtl_ray.errors import InputError
from mtl_ray.storage import absolute

PARQUET = "parquet"
FORMATS = {".parquet": PARQUET, ".pq": PARQUET, ".parq": PARQUET, ".csv": ",", ".tsv": "\t"}
"""Format by suffix, in lower case; of text, its separator."""
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd", ".lz4": "lz4", ".br": "brotli"}
SUFFIXES = ".parquet, .csv, .csv.gz, .tsv, .tsv.gz (or .pq, .bz2, .zst, .lz4, .br)"
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""Value in the name of a folder that stands for null."""


@dataclass(frozen=True)
class File:
    """A file on some filesystem; picklable."""

    path: str
    filesystem: pafs.FileSystem = field(default_factory=pafs.LocalFileSystem)
    below: str = ""
    """Path below the folder that was searched; empty for a file that was named."""
    label: str = ""
    """The file's name within its log: the last part of the path, or `below` where several files end in one name."""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def shown(self) -> str:
        """The name within the log, which also decides the draws of its rows."""
        return self.label or self.name

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns that folders such as `dt=2026-01-01` give to all rows of the file."""
        folders = [part.partition("=") for part in self.below.split("/")[:-1]]
        named = {unquote(name): unquote(value) for name, sign, value in folders if name and sign}
        return {name: None if value in ("", NULL_FOLDER) else value for name, value in named.items()}

    @property
    def compression(self) -> str | None:
        """Compression of the whole file."""
        return COMPRESSIONS.get(_split(self.name)[1])

    @property
    def format(self) -> str | None:
        """`PARQUET` or the separator of text; None for any other file."""
        stem, compression = _split(self.name)
        found = next((FORMATS[suffix] for suffix in FORMATS if stem.endswith(suffix)), None)
        if found is None and "." not in self.name and self._has_mark():
            return PARQUET
        return None if found == PARQUET and compression else found

    def _has_mark(self) -> bool:
        """Return whether the file begins as Parquet does: some writers give it no suffix."""
        try:
            with self.filesystem.open_input_stream(self.path, compression=None) as stream:
                return stream.read(4) == b"PAR1"
        except OSError:
            return False


def _split(name: str) -> tuple[str, str]:
    """Return a name, in lower case, without and with only the suffix of a compression."""
    name = name.lower()
    compression = next((suffix for suffix in COMPRESSIONS if name.endswith(suffix)), "")
    return name.removesuffix(compression), compression


def find_files(*paths: str) -> list[File]:
    """Find the files that paths, folders or globs (`*`, `?`, `[]` within a part of the path) name.

    A folder stands for the Parquet and CSV files below it, except those whose path below it has a part that begins with
    a dot or an underscore. A warning names other files. The files of each path are sorted.

    Raises:
        InputError: nothing is there, a suffix is not known, Parquet and CSV files are mixed, or the files belong to a
            table format that keeps removed rows.
    """
    files = [file for path in paths for file in _find(path)]
    if len({file.format == PARQUET for file in files}) > 1:
        raise InputError(
            f"{', '.join(paths)}: expected Parquet files or CSV files, found both; give one of them, for example "
            "with a glob such as `log/*.parquet`"
        )
    names = Counter(file.name for file in files)
    return [replace(file, label=file.below) if names[file.name] > 1 else file for file in files]


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
            refuse_table_formats(path, filesystem, root.rpartition("/")[0], [], [root])
            return [_known(File(root, filesystem))]
        if info.type != pafs.FileType.Directory:
            raise InputError(f"{path}: expected a file, a folder or a glob, found nothing there; correct the path")
        infos = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{path}: expected a path or URL that pyarrow opens, found {message}; correct it") from error
    root, files, others = root.rstrip("/"), [], []
    for found in sorted(i.path for i in infos if i.type == pafs.FileType.File):
        below = found[len(root) + 1 :].split("/")
        file = File(found, filesystem, "/".join(below))
        rest = below[len(pattern) :]
        if len(below) < len(pattern) or not all(map(fnmatchcase, below, pattern)):
            continue
        if pattern and not rest:
            files.append(_known(file))
        elif not any(part.startswith((".", "_")) for part in rest):
            (others if file.format is None else files).append(file)
    refuse_table_formats(path, filesystem, root, [i.path for i in infos], [file.path for file in files])
    if not files:
        raise InputError(f"{path}: expected files that end with {SUFFIXES}, found none; correct the path")
    if others:
        warnings.warn(f"{path}: {_some(others)} not read: neither Parquet nor CSV by the name", stacklevel=2)
    return files


def _some(files: Sequence[File]) -> str:
    shown = ", ".join(file.below for file in files[:3])
    return f"{shown} and {len(files) - 3} more are" if files[3:] else f"{shown} {'are' if files[1:] else 'is'}"


def _known(file: File) -> File:
    if file.format is None:
        raise InputError(f"{file.path}: expected a file that ends with {SUFFIXES}; convert or rename it")
    return file
