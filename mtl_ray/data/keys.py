"""Values of id and category columns as text keys, and seeded hashes of them that are the same on every machine."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array, not chunks."""
    if isinstance(array, pa.ChunkedArray):
        return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    return array


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, without a dictionary."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def decoded(array: pa.Array) -> pa.Array:
    """Without a dictionary."""
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def to_keys(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Text keys of a column, null where it is null or blank.

    The number 1, the number 1.0 and the texts "1" and "1.0" are one key, since a nullable integer column changes its
    type between CSV, Parquet and pandas.
    """
    array = flat(array)
    if pa.types.is_dictionary(array.type):
        return _text_keys(array.dictionary).take(array.indices)
    if is_text(array.type):
        distinct = array.dictionary_encode()  # few among many, mostly: a text is looked at once
        return _text_keys(distinct.dictionary).take(distinct.indices)
    return _text_keys(array)


def _text_keys(array: pa.Array) -> pa.Array:
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    if pa.types.is_integer(array.type):
        return array.cast(pa.string())
    text = pc.utf8_trim_whitespace(array.cast(pa.string()))
    if pc.any(pc.match_substring(text, ".")).as_py():  # an expression takes ten times as long
        text = pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")
    return pc.if_else(pc.equal(text, ""), None, text)


def hash_keys(keys: pa.Array) -> np.ndarray:
    """(n,) uint64 hash of text keys; nulls hash to a constant."""
    encoded = keys.dictionary_encode()
    texts = encoded.dictionary.to_numpy(zero_copy_only=False)
    hashes = np.append(pd.util.hash_array(texts, categorize=False), np.uint64(0))
    return hashes[encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)]


def mix(values: np.ndarray, seed: int) -> np.ndarray:
    """(n,) uint64: `values` scrambled with a seed (the finalizer of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(2 * seed + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(values: np.ndarray, seed: int) -> np.ndarray:
    """(n,) float64 in [0, 1): a reproducible draw for each value."""
    return (mix(values, seed) >> np.uint64(11)).astype(np.float64) / float(1 << 53)
