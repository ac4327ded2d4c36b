"""Parquet files, read with care: no pickled objects, and one line for a damaged file."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from mtl_ray.errors import InputError


def refuse_pickles(schema: pa.Schema, where: str) -> None:
    """Raise InputError, which begins with `where`, if a column holds pickled objects.

    Where Ray Data is loaded, reading such values would run any code that the author of the file put into them.
    """
    for field in schema:
        if any(getattr(kind, "extension_name", "") == "ray.data.arrow_pickled_object" for kind in _kinds(field.type)):
            raise InputError(f"{where}: expected columns of values, found pickled objects in `{field.name}`")


def _kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    """Yield a type and all types inside it."""
    yield kind
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    inner += [getattr(kind, name) for name in ("storage_type", "value_type") if hasattr(kind, name)]
    for part in inner:
        yield from _kinds(part)


def damaged(where: str, expected: str, found: object) -> InputError:
    """Return the error for a file of ours that was cut off or changed."""
    reason = " ".join(str(found).split())[:300]
    return InputError(
        f"{where}: expected {expected}, found what cannot be read ({reason}); restore the file, or delete its folder "
        "if it can be made again"
    )


def read_parquet(
    path: str, fs: pafs.FileSystem, columns: list[str] | None = None, *, dictionaries: bool = False
) -> pa.Table:
    """Read a Parquet file, all columns by default; with `dictionaries`, texts dictionary-encoded.

    Raises:
        InputError: a column holds pickled objects, or the file is damaged.
    """
    try:
        file = pq.ParquetFile(path, filesystem=fs)
        refuse_pickles(file.schema_arrow, path)
        if dictionaries:
            texts = [field.name for field in file.schema_arrow if is_text(field.type)]
            file = pq.ParquetFile(path, filesystem=fs, metadata=file.metadata, read_dictionary=texts)
        return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and (error.errno or not isinstance(fs, pafs.LocalFileSystem)):
            raise  # of the way to the file, such as a network, not of its content
        raise damaged(path, "a whole Parquet file", error) from error


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds plain text, without a dictionary."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
