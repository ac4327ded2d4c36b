"""Files of a data set on any filesystem that pyarrow opens: a local path or a URL."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mtl_ray.errors import InputError, refuse_credentials


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


class Folder:
    """A folder given by an absolute path or a URL."""

    def __init__(self, location: str) -> None:
        self.location = absolute(location).rstrip("/")
        self.fs, self.path = pafs.FileSystem.from_uri(self.location)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.location}/{name}")

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
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        infos = self.fs.get_file_info(selector)
        return sorted(i.path for i in infos if i.type == pafs.FileType.File and i.path.endswith(suffix))

    def write_table(self, name: str, table: pa.Table, *, dictionary: bool = True) -> None:
        """Write a Parquet file. A dictionary makes columns of text small; columns of numbers it makes slow alone."""
        self.create()
        path = f"{self.path}/{name}"
        pq.write_table(table, path, filesystem=self.fs, compression="zstd", use_dictionary=dictionary)

    def write_whole_table(self, name: str, table: pa.Table) -> None:
        """Write a Parquet file aside and rename it: it is there whole or not at all."""
        self.write_table(f".{name}.partial", table)
        (self / f".{name}.partial").rename(self / name)

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file, all columns by default. Raises InputError as `refuse_pickles`."""
        file = pq.ParquetFile(f"{self.path}/{name}", filesystem=self.fs)
        refuse_pickles(file.schema_arrow, f"{self.path}/{name}")
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

    def write_whole(self, name: str, text: str) -> None:
        """Write a UTF-8 file aside and rename it: it is there whole or not at all. `name` may begin with folders."""
        parent, _, file = name.rpartition("/")
        folder = self / parent if parent else self
        folder.write_text(f"{file}.partial", text)
        Folder(f"{folder.location}/{file}.partial").rename(Folder(f"{folder.location}/{file}"))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a binary file."""
        self.create()
        with self.fs.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(content)

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_text(name))

    def delete(self) -> None:
        """Remove the folder and all in it, if it is there."""
        if self.exists():
            self.fs.delete_dir(self.path)

    def rename(self, target: "Folder") -> None:
        """Give the finished folder its name; a local rename is atomic."""
        if isinstance(self.fs, pafs.LocalFileSystem):
            os.replace(self.path, target.path)  # noqa: PTH105 - atomic, for files and folders
        else:
            self.fs.move(self.path, target.path)
