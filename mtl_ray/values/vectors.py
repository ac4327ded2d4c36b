"""Columns of vectors and images: lists of numbers of one length, variable or fixed-size in Arrow."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.values.numbers import LARGEST


def to_vectors(values: pa.Array, size: int, name: str) -> np.ndarray:
    """Return (n, size) float32; all of a row is NaN where it is null or holds a null or a number beyond `LARGEST`.

    Raises:
        ValueError: an entry is no list of `size` numbers; the message begins with `name`.
    """
    result = np.full((len(values), size), np.nan, np.float32)
    if values.null_count == len(values):
        return result
    if not is_vectors(values.type):
        raise ValueError(f"{name}: expected lists of {size} numbers; found {values.type}")
    lists = _as_lists(values)
    lengths = pc.list_value_length(lists).drop_null().unique()
    if lengths.to_pylist() != [size]:
        raise ValueError(f"{name}: expected lists of {size} numbers; found lengths {lengths.to_pylist()}")
    rows = _numbers(lists).reshape(-1, size)
    result[np.asarray(lists.is_valid())] = np.where((np.abs(rows) <= LARGEST).all(1, keepdims=True), rows, np.nan)
    return result


def bad_vectors(values: pa.Array, size: int) -> Iterator[tuple[np.ndarray, str]]:
    """Yield each way in which entries are unusable: (n,) flags and the reason; a null is usable."""
    present = np.asarray(values.is_valid())
    if not is_vectors(values.type):
        yield present, "is not a list of numbers"
        return
    lists = _as_lists(values)
    fits = np.asarray(pc.equal(pc.list_value_length(lists), size).fill_null(False))
    yield present & ~fits, f"has not {size} numbers"
    largest = np.zeros(len(values))  # NaN where there is one
    largest[fits] = np.abs(_numbers(lists.filter(pa.array(fits))).reshape(-1, size)).max(1, initial=0)
    yield ~np.isfinite(largest), "holds a number that is null or not finite"
    if (beyond := np.isfinite(largest) & (largest > LARGEST)).any():
        yield beyond, f"holds a number beyond {LARGEST:.2g}"


def as_variable(values: pa.Array) -> pa.Array:
    """Return fixed-size lists as variable ones, other columns as they are.

    Arrow cannot read fixed-size lists with a null back from Parquet.
    """
    return values.cast(pa.list_(values.type.value_type)) if pa.types.is_fixed_size_list(values.type) else values


def is_lists(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds lists, once fixed-size ones are variable."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def is_vectors(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds lists of numbers."""
    if not (is_lists(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind.value_type) for test in tests)


def digests(values: pa.Array) -> pa.Array:
    """Return (n,) texts that are equal for equal lists of numbers; null for null."""
    lists = _as_lists(values)
    numbers = _numbers(lists)
    ends = np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False))
    starts = np.concatenate([[0], ends[:-1]])
    texts = [
        hashlib.blake2b(numbers[a:b].tobytes(), digest_size=16).hexdigest() for a, b in zip(starts, ends, strict=True)
    ]
    return pa.array(texts, pa.string(), mask=np.asarray(lists.is_null()))


def _as_lists(values: pa.Array) -> pa.ListArray:
    return values.cast(pa.list_(pa.float32()), safe=False)  # whole numbers beyond 2^24 are rounded


def _numbers(lists: pa.ListArray) -> np.ndarray:
    """Return the entries of all lists one after the other, NaN for null."""
    return lists.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
