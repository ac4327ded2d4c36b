"""Values of id and category columns as text keys. Their hashes are the same on every machine."""

import math
import unicodedata
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.errors import InputError
from mtl_ray.values.canonical import content_of, decoded, flat, is_single, plain
from mtl_ray.values.times import time_keys

__all__ = ["decoded", "flat", "hash_keys", "normalised", "to_keys"]

SCIENTIFIC = r"^-?\d+(\.\d+)?e[+-]\d{1,3}$"
"""A number as Arrow and Python write a large or small float, such as 9e+10; no hexadecimal id has a sign."""

FLAGS = {"-0": "0", "false": "0", "False": "0", "FALSE": "0", "true": "1", "True": "1", "TRUE": "1"}
"""Keys of texts that are written in another way than the numbers 0 and 1."""

PLAIN_FLOATS = (1e-5, 1e10)
"""Between these magnitudes Arrow writes the shortest decimal digits of a float, without an exponent."""


def to_keys(array: pa.Array | pa.ChunkedArray, *, words: bool = False) -> pa.Array:
    """Return the text keys of a column, null where it is null or blank.

    A value has one key, whatever its type: the number 1, the number 1.0, true and the texts "1", "1.0", "true" and
    "True" have the key "1". Numbers are written with all their digits, texts in Unicode's composed form (NFC).

    Args:
        array: values, not lists.
        words: whether texts are words of a language, so that "true" is one.

    Raises:
        InputError: the column holds lists, structs or maps.
    """
    array = plain(array)
    if not is_single(array.type):
        raise InputError(f"expected a single value in each row, found {array.type}")
    if pa.types.is_dictionary(array.type):
        return _text_keys(array.dictionary, words=words).take(array.indices)
    if not (pa.types.is_integer(array.type) or pa.types.is_boolean(array.type) or pa.types.is_null(array.type)):
        distinct = array.dictionary_encode()  # few among many, mostly: a text is looked at once
        return _text_keys(distinct.dictionary, words=words).take(distinct.indices)
    return _text_keys(array, words=words)


def bad_keys(values: pa.Array, column: str) -> Iterator[tuple[np.ndarray, str]]:
    """Yield (n,) flags of cells of `column` that have no key, with the reason."""
    if not is_single(values.type):
        yield np.asarray(values.is_valid()), f"{column} is a list, not a single value"


def normalised(texts: pa.Array) -> pa.Array:
    """Return texts in Unicode's composed form (NFC)."""
    content = content_of(texts)
    if content.isascii() or unicodedata.is_normalized("NFC", content.decode(errors="replace")):
        return texts
    # Arrow's utf8_normalize does not compose.
    whole = [None if text is None else unicodedata.normalize("NFC", text) for text in texts.to_pylist()]
    return pa.array(whole, pa.string())


def _text_keys(array: pa.Array, *, words: bool) -> pa.Array:
    types, kind = pa.types, array.type
    if types.is_boolean(kind):
        array = array.cast(pa.int8())
    if types.is_floating(kind):
        return _float_keys(array)
    if types.is_decimal(kind):
        return pa.array([None if v is None else _digits(v) for v in array.to_pylist()], pa.string())
    if types.is_temporal(kind):
        return time_keys(array)
    if not types.is_string(kind):
        return array.cast(pa.string())
    text = normalised(pc.utf8_trim_whitespace(array))
    content = content_of(text)
    if b"." in content:
        text = pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")
    if b"e+" in content or b"e-" in content:
        written = pc.match_substring_regex(text, SCIENTIFIC).fill_null(False)
        numbers = [_float_digits(number) for number in text.filter(written).to_pylist()]
        text = pc.replace_with_mask(text, written, pa.array(numbers, pa.string()))
    if not words:
        place = pc.index_in(text, value_set=pa.array([*FLAGS]))
        if place.null_count < len(place):
            text = pc.coalesce(pa.array([*FLAGS.values()]).take(place), text)
    return pc.if_else(pc.equal(text, ""), None, text)


def _float_keys(array: pa.Array) -> pa.Array:
    """Return keys of floats: all digits of a whole number, otherwise the fewest that tell it from its neighbours."""
    array = pc.if_else(pc.is_nan(array), None, array)
    numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
    size = np.abs(numbers)
    is_int = (size < 2.0**63) & (numbers == np.trunc(numbers))
    whole = pa.array(np.where(is_int, numbers, 0).astype(np.int64)).cast(pa.string())
    keys = pc.if_else(pa.array(is_int), whole, array.cast(pa.string()))
    odd = ~is_int & ((size < PLAIN_FLOATS[0]) | (size >= PLAIN_FLOATS[1])) & np.isfinite(numbers)
    if odd.any():
        texts = [_float_digits(str(number)) for number in numbers[odd]]
        keys = pc.replace_with_mask(keys, pa.array(odd), pa.array(texts, pa.string()))
    return pc.if_else(array.is_null(), None, keys)


def _float_digits(text: str) -> str:
    """Write a float, given by its text, as `_float_keys` says; one that is too large for a float stays as it is."""
    number = float(text)
    if not math.isfinite(number):
        return text
    return str(int(number)) if number.is_integer() else _digits(Decimal(text))


def _digits(number: Decimal) -> str:
    """Write a number without an exponent and without zeros at the end of its fraction."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def hash_keys(keys: pa.Array) -> np.ndarray:
    """Return (n,) uint64 hashes of text keys; nulls hash to a constant."""
    encoded = keys.dictionary_encode()
    texts = encoded.dictionary.to_numpy(zero_copy_only=False)
    hashes = np.append(pd.util.hash_array(texts, categorize=False), np.uint64(0))
    return hashes[encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)]
