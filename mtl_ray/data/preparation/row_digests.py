"""Digests of the columns of a log that nothing reads: rows that differ in one of them are no repeats."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from mtl_ray.counter_rng import mix
from mtl_ray.parquet import is_text
from mtl_ray.values.keys import flat, hash_keys
from mtl_ray.values.vectors import as_variable, is_lists

NULL = np.uint64(0x9E3779B97F4A7C15)
"""Digest of a null; that of the number 0 is 0."""


def row_digests(columns: Sequence[pa.Array | pa.ChunkedArray]) -> np.ndarray:
    """Return (n,) uint64, equal for rows that are equal in all columns; nulls are equal."""
    digests = _digests(flat(columns[0]))
    for column in columns[1:]:
        digests = mix(digests, 0) ^ _digests(flat(column))
    return digests


def _digests(values: pa.Array) -> np.ndarray:
    values, kind = as_variable(values), values.type
    if pa.types.is_dictionary(kind):
        return np.append(_digests(values.dictionary), NULL)[_codes(values)]
    if is_lists(values.type):
        return _of_lists(values)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        digests = pd.util.hash_array(np.asarray(values.fill_null(0)))
        digests[np.asarray(values.is_null())] = NULL
        return digests
    if is_text(kind):
        return hash_keys(values)
    return pd.util.hash_array(np.array([str(value) for value in values.to_pylist()], dtype=object))


def _codes(values: pa.DictionaryArray) -> np.ndarray:
    return values.indices.fill_null(len(values.dictionary)).to_numpy(zero_copy_only=False)


def _of_lists(values: pa.Array) -> np.ndarray:
    """Add up the digests of the entries of each list, mixed with their places in it."""
    sizes = np.asarray(values.value_lengths().fill_null(0)).astype(np.int64)
    ends = np.cumsum(sizes)
    places = np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes)
    entries = mix(_digests(values.flatten()) ^ mix(places, 1), 0)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(entries, dtype=np.uint64)])
    lengths = np.where(np.asarray(values.is_null()), np.uint64(0), sizes.astype(np.uint64) + np.uint64(1))
    return mix((sums[ends] - sums[ends - sizes]) ^ mix(lengths, 2), 0)
