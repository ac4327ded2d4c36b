"""Values of id and category columns as text keys. Their hashes are the same on every machine."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.storage import is_text


def flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array, not chunks."""
    if isinstance(array, pa.ChunkedArray):
        return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    return array


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
