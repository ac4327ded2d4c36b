"""The one door for values: any Arrow column as one of few plain types, whatever file, frame or request it comes from.

`keys`, `numbers`, `times`, `booleans` and `lists` read values; they begin here, so they need to know plain types only:
null, boolean, integer, float, decimal, date, timestamp, text, and lists of these. What a value means does not depend on
the other values of its column.
"""

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UUID_BYTES = 16


VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
"""Types of views, such as those of polars, and of the values themselves: Arrow picks none out of views by number."""


def flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return one contiguous array instead of chunks."""
    if isinstance(array, pa.ChunkedArray):
        return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    return array


def decoded(array: pa.Array) -> pa.Array:
    """Return the array without a dictionary."""
    if not pa.types.is_dictionary(array.type):
        return array
    kind = VIEWS.get(array.type.value_type, array.type.value_type)
    if kind != array.type.value_type:
        array = pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(kind))
    return array.cast(kind)


def plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column with a plain type; a dictionary stays, and so do structs and maps, which no reader takes.

    Binary values become text: UUIDs (16 bytes) in their usual form, UTF-8 as it is, others in hexadecimal.
    """
    values = flat(values)
    kind, types = values.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain(values.storage)
    if types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(values))
    if types.is_dictionary(kind):
        known = plain(values.dictionary)
        return values if known.type == kind.value_type else pa.DictionaryArray.from_arrays(values.indices, known)
    if types.is_string_view(kind) or types.is_large_string(kind):
        return values.cast(pa.string())
    if types.is_binary_view(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return _texts_of_bytes(values, is_uuid=False)
    if types.is_fixed_size_binary(kind):
        return _texts_of_bytes(values, is_uuid=kind.byte_width == UUID_BYTES)
    if types.is_float16(kind):
        return values.cast(pa.float32())
    return _plain_lists(values) if _has_entries(kind) else values


def is_single(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds one value a row: no list, struct or map."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not pa.types.is_nested(kind)


def content_of(texts: pa.Array) -> bytes:
    """Return the bytes of all texts one after the other, and maybe of others: Python finds quickly what is nowhere."""
    buffer = texts.buffers()[2]
    return buffer.to_pybytes() if buffer else b""


def from_cells(cells: Sequence[Any]) -> pa.Array:
    """Return Python values as a column, each with the meaning that it has alone.

    Values that Arrow does not put into one column (texts beside numbers, integers of more than 64 bits) become text,
    also within lists, which the readers take as the same values.
    """
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        return pa.array([_as_text(cell) for cell in cells])


def _as_text(cell: Any) -> Any:
    if isinstance(cell, list | tuple):
        return [_as_text(entry) for entry in cell]
    if isinstance(cell, dict):
        raise TypeError("expected a value or a list of values; found an object")
    if isinstance(cell, bool):
        return str(int(cell))  # the key of true is 1, and as a number it is 1, too
    return None if cell is None or cell != cell else str(cell)  # noqa: PLR0124 - NaN alone differs from itself


def _texts_of_bytes(values: pa.Array, *, is_uuid: bool) -> pa.Array:
    distinct = values.cast(pa.large_binary()).dictionary_encode()
    texts = [_text_of_bytes(value, is_uuid=is_uuid) for value in distinct.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(distinct.indices)


def _text_of_bytes(value: bytes, *, is_uuid: bool) -> str:
    if not is_uuid:
        try:
            return value.decode()
        except UnicodeDecodeError:
            is_uuid = len(value) == UUID_BYTES
    return str(uuid.UUID(bytes=value)) if is_uuid else value.hex()


def _has_entries(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(test(kind) for test in tests)


def _plain_lists(values: pa.Array) -> pa.Array:
    """Return variable lists of plain entries; fixed-size lists keep their size if their entries are plain already."""
    kind = values.type
    entries = decoded(plain(pa.array([], kind.value_type))).type
    is_variable = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if entries == kind.value_type and (is_variable or pa.types.is_fixed_size_list(kind)):
        return values
    sizes = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, decoded(plain(values.flatten())), mask=flat(values.is_null()))
