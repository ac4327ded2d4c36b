"""Files of a data set on any filesystem that pyarrow opens: a local path or a URL."""

import contextlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mtl_ray.errors import InputError, first_line, refuse_credentials

LEFT_OVER = 24 * 3600.0
"""Seconds after which what a killed process was writing aside is taken for left over."""

PROBE = ".check-"
"""How the names of the files begin that are written to find out whether a folder can be written; they are deleted."""

COPIES = 16
"""Files that are copied at once where a filesystem has no rename."""


def absolute(location: str) -> str:
    """A URL as it is; a local path made absolute, since workers run in other folders.

    Raises:
        InputError: a URL with credentials.
    """
    refuse_credentials(location, "location")
    return location if "://" in location else str(Path(location).expanduser().absolute())


def refuse_pickles(schema: pa.Schema, where: str) -> None:
    """Raises InputError, which begins with `where`, if a column holds pickled objects.

    Where Ray Data is loaded, reading their values would run whatever code the file's author put into them.
    """
    for field in schema:
        if any(getattr(kind, "extension_name", "") == "ray.data.arrow_pickled_object" for kind in _kinds(field.type)):
            raise InputError(f"{where}: expected columns of values, found pickled objects in `{field.name}`")


def _kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type and all that it is made of."""
    yield kind
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    inner += [getattr(kind, name) for name in ("storage_type", "value_type") if hasattr(kind, name)]
    for part in inner:
        yield from _kinds(part)


def local_copy(folder: "Folder") -> Path:
    """The folder itself if it is local, else a copy of it in the temporary folder of this machine."""
    if isinstance(folder.fs, pafs.LocalFileSystem):
        return Path(folder.path)
    copy = Path(tempfile.mkdtemp(prefix="mtl_ray-")) / folder.name
    copy.mkdir()
    if folder.exists():
        pafs.copy_files(folder.path, str(copy), source_filesystem=folder.fs)
    return copy


def write_probe(location: str, name: str, probe: str) -> "Folder":
    """Make a folder and write a file `probe`, whose name begins with `PROBE`, into it.

    Raises:
        InputError: this machine cannot; the message begins with `name`.
    """
    try:
        folder = Folder(location).create()
        sweep(folder, PROBE)  # of those that were killed
        folder.write_text(probe, probe)
    except OSError as error:
        raise InputError(f"{name}: this machine cannot write {location}: {first_line(error)}") from None
    return folder


def check_writable(location: str, name: str) -> None:
    """Make a folder. Raises InputError, which begins with `name`, if this machine cannot write into it."""
    probe = f"{PROBE}{uuid.uuid4().hex[:12]}"
    folder = write_probe(location, name, probe)
    folder.fs.delete_file(f"{folder.path}/{probe}")


def sweep(folder: "Folder", prefix: str) -> None:
    """Remove the files and folders inside whose names begin so and in which nothing was written for `LEFT_OVER`.

    Another process may be at it too: what is gone meanwhile is passed over.
    """
    for left in folder.fs.get_file_info(pafs.FileSelector(folder.path)):
        if left.base_name.startswith(prefix):
            with contextlib.suppress(FileNotFoundError):
                _sweep(folder.fs, left)


def _sweep(fs: pafs.FileSystem, left: pafs.FileInfo) -> None:
    is_file = left.type == pafs.FileType.File
    inside = [left] if is_file else fs.get_file_info(pafs.FileSelector(left.path, recursive=True))
    written = max((info.mtime_ns or 0 for info in inside), default=left.mtime_ns or 0)
    if time.time() - written / 1e9 > LEFT_OVER:
        (fs.delete_file if is_file else fs.delete_dir)(left.path)


class Folder:
    """A folder given by an absolute path or a URL, whose `?options` all that is in it keeps.

    Raises:
        InputError: a URL with credentials, or one that pyarrow does not open.
    """

    def __init__(self, location: str) -> None:
        place, self.options = absolute(location), ""
        if "://" in place:
            place, mark, options = place.partition("?")
            self.options = mark + options
        self.place = place.rstrip("/")
        self.location = self.place + self.options
        try:
            self.fs, self.path = pafs.FileSystem.from_uri(self.location)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"{location}: expected a folder or a URL that pyarrow opens; {error}") from None

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.place}/{name}{self.options}")

    def suffixed(self, suffix: str) -> "Folder":
        """The folder beside this one whose name is longer by `suffix`."""
        return Folder(f"{self.place}{suffix}{self.options}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def __repr__(self) -> str:
        return self.location

    def create(self) -> "Folder":
        """Make the folder and its parents."""
        self.fs.create_dir(self.path, recursive=True)
        return self

    def exists(self, name: str = "") -> bool:
        """Whether the folder, or `name` in it, is there."""
        path = f"{self.path}/{name}" if name else self.path
        return self.fs.get_file_info(path).type != pafs.FileType.NotFound

    def files(self, suffix: str = "") -> list[str]:
        """Full paths (for this folder's filesystem) of the files directly inside, sorted by name."""
        return sorted(i.path for i in self._inside() if i.type == pafs.FileType.File and i.path.endswith(suffix))

    def entries(self) -> list[str]:
        """Names of the files and folders directly inside; none if the folder is not there."""
        return sorted(info.base_name for info in self._inside())

    def _inside(self) -> list[pafs.FileInfo]:
        return self.fs.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))

    def write_table(self, name: str, table: pa.Table, *, dictionary: bool = True) -> None:
        """Write a Parquet file. A dictionary makes columns of text small; columns of numbers it makes slow alone."""
        self.create()
        path = f"{self.path}/{name}"
        pq.write_table(table, path, filesystem=self.fs, compression="zstd", use_dictionary=dictionary)

    def write_whole_table(self, name: str, table: pa.Table) -> None:
        """Write a Parquet file aside and rename it: it is there whole or not at all."""
        self.write_table(f".{name}.partial", table)
        (self / f".{name}.partial").rename(self / name)

    def read_table(self, name: str, columns: list[str] | None = None, *, numbered: bool = False) -> pa.Table:
        """Read a Parquet file, all columns by default; `numbered` with texts as dictionaries, as most are in the file.

        Raises InputError as `refuse_pickles`.
        """
        file = pq.ParquetFile(f"{self.path}/{name}", filesystem=self.fs)
        refuse_pickles(file.schema_arrow, f"{self.path}/{name}")
        if numbered:
            texts = [field.name for field in file.schema_arrow if is_text(field.type)]
            file = pq.ParquetFile(
                f"{self.path}/{name}", filesystem=self.fs, metadata=file.metadata, read_dictionary=texts
            )
        return file.read(columns=columns)

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 file."""
        self.write_bytes(name, text.encode())

    def read_text(self, name: str) -> str:
        """Read a UTF-8 file."""
        with self.fs.open_input_stream(f"{self.path}/{name}") as stream:
            return stream.read().decode()

    def copy_to(self, name: str, target: Path) -> None:
        """Copy a file to a local path."""
        with self.fs.open_input_stream(f"{self.path}/{name}") as source, target.open("wb") as local:
            shutil.copyfileobj(source, local)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON."""
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def write_atomic(self, name: str, text: str) -> None:
        """Write a UTF-8 file aside and rename it: it is there whole or not at all. `name` may begin with folders."""
        parent, _, file = name.rpartition("/")
        folder = self / parent if parent else self
        folder.write_text(f"{file}.partial", text)
        (folder / f"{file}.partial").rename(folder / file)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a binary file."""
        self.create()
        # By default pyarrow compresses what has a name such as `trace.json.gz`.
        with self.fs.open_output_stream(f"{self.path}/{name}", compression=None) as stream:
            stream.write(content)

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_text(name))

    def delete(self) -> None:
        """Remove the folder and all in it, if it is there."""
        if self.exists():
            self.fs.delete_dir(self.path)

    def rename(self, target: "Folder", last: str = "") -> None:
        """Give the finished folder (or file) its name.

        A local rename is atomic, and fails where the target has something in it. Object stores have none for folders:
        all files are copied, `last` after the others, so that a target that has `last` is whole. What is there already
        stays: it may be the same, just written by another process.
        """
        if isinstance(self.fs, pafs.LocalFileSystem):
            os.replace(self.path, target.path)  # noqa: PTH105 - atomic, for files and folders
        elif self.fs.get_file_info(self.path).is_file:
            self.fs.move(self.path, target.path)
        else:
            infos = self.fs.get_file_info(pafs.FileSelector(self.path, recursive=True))
            names = [info.path.removeprefix(f"{self.path}/") for info in infos if info.is_file]
            for folder in {name.rpartition("/")[0] for name in names}:
                target.fs.create_dir(f"{target.path}/{folder}".rstrip("/"), recursive=True)

            def copy(name: str) -> None:
                self.fs.copy_file(f"{self.path}/{name}", f"{target.path}/{name}")

            with ThreadPoolExecutor(COPIES) as pool:
                list(pool.map(copy, (name for name in names if name != last)))
            if last in names:
                copy(last)
            self.delete()


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, without a dictionary."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
