"""Files of a data set on any filesystem that pyarrow opens: a local path or a URL."""

import contextlib
import errno
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from mtl_ray.errors import InputError, first_line, refuse_credentials
from mtl_ray.parquet import damaged, read_parquet

LEFT_OVER = 24 * 3600.0
"""Seconds without a write after which a temporary file or folder is taken for one of a killed process."""

PROBE = ".check-"
"""Prefix of the files that are written to try a folder, and deleted again."""

COPIES = 16
"""Files that are copied at the same time where a filesystem has no rename."""

Model = TypeVar("Model", bound=BaseModel)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Name what is written in an error of a full disk, which pyarrow leaves out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = path
        raise


def absolute(location: str) -> str:
    """Return a URL as it is and a local path as an absolute one: workers run in other folders.

    Raises:
        InputError: a URL with credentials.
    """
    refuse_credentials(location, "location")
    return location if "://" in location else str(Path(location).expanduser().absolute())


def local_copy(folder: "Folder", place: Path) -> Path:
    """Return the path of a local folder, or of a copy of a remote one below `place`."""
    if isinstance(folder.fs, pafs.LocalFileSystem):
        return Path(folder.path)
    copy = place / folder.name
    copy.mkdir(parents=True)
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
    """Remove the files and folders inside whose names begin with `prefix`, if not written for `LEFT_OVER` seconds.

    Another process may sweep at the same time: what has gone meanwhile is skipped.
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
    """A folder given by a path or a URL. The `?options` of a URL hold for all that is inside.

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
        """Return the folder beside this one whose name has `suffix` appended."""
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
        """Return whether the folder, or `name` in it, exists."""
        path = f"{self.path}/{name}" if name else self.path
        return self.fs.get_file_info(path).type != pafs.FileType.NotFound

    def files(self, suffix: str = "") -> list[str]:
        """Return the paths, on this folder's filesystem, of the files directly inside, sorted."""
        return sorted(i.path for i in self._inside() if i.type == pafs.FileType.File and i.path.endswith(suffix))

    def entries(self) -> list[str]:
        """Return the sorted names of the files and folders directly inside; none if there is no such folder."""
        return sorted(info.base_name for info in self._inside())

    def _inside(self) -> list[pafs.FileInfo]:
        return self.fs.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))

    def write_table(self, name: str, table: pa.Table, *, dictionary: bool = True) -> None:
        """Write a Parquet file. Dictionaries make columns of text smaller; columns of numbers only get slower."""
        self.create()
        path = f"{self.path}/{name}"
        with naming(path):
            pq.write_table(table, path, filesystem=self.fs, compression="zstd", use_dictionary=dictionary)

    def write_whole_table(self, name: str, table: pa.Table) -> None:
        """Write a Parquet file aside and rename it: the whole file is there, or none."""
        self.write_table(f".{name}.partial", table)
        (self / f".{name}.partial").rename(self / name)

    def read_table(self, name: str, columns: list[str] | None = None, *, dictionaries: bool = False) -> pa.Table:
        """Read a Parquet file, see `read_parquet`."""
        return read_parquet(f"{self.path}/{name}", self.fs, columns, dictionaries=dictionaries)

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
        self.write_text(name, json_text(value) + "\n")

    def write_atomic(self, name: str, text: str) -> None:
        """Write a UTF-8 file aside and rename it: the whole file is there, or none. `name` may begin with folders."""
        parent, _, file = name.rpartition("/")
        folder = self / parent if parent else self
        folder.write_text(f"{file}.partial", text)
        (folder / f"{file}.partial").rename(folder / file)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a binary file."""
        self.create()
        path = f"{self.path}/{name}"
        # By default pyarrow compresses a file with a name such as `trace.json.gz`.
        with naming(path), self.fs.open_output_stream(path, compression=None) as stream:
            stream.write(content)

    def read_json(self, name: str) -> Any:
        """Read a JSON file. Raises InputError if it is damaged."""
        try:
            return json.loads(self.read_text(name))
        except (ValueError, RecursionError) as error:
            raise damaged(f"{self.path}/{name}", "whole JSON", error) from error

    def read_model(self, name: str, kind: type[Model]) -> Model:
        """Read a section from a JSON file. Raises InputError if it is damaged."""
        try:
            return kind.model_validate_json(self.read_text(name))
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
            raise damaged(f"{self.path}/{name}", f"the JSON of a {kind.__name__.lower()}", reason) from error
        except ValueError as error:  # bytes that are no text
            raise damaged(f"{self.path}/{name}", "whole JSON", error) from error

    def delete(self) -> None:
        """Remove the folder and everything in it, if it exists."""
        if self.exists():
            self.fs.delete_dir(self.path)

    def rename(self, target: "Folder", last: str = "") -> None:
        """Rename this folder or file to `target`.

        A local rename is atomic, and fails if the target is a folder that is not empty. Object stores cannot rename
        folders: all files are copied, `last` after the others, so that a target with `last` is complete. Other files
        of the target stay: another process may just have written them.
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


def json_text(value: Any, indent: int | None = 2) -> str:
    """Return a value as JSON; a number that is not finite, for which JSON has no word, becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
