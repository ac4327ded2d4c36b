"""Columns of true and false, and cells that equal a value of the experiment file."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.base import Scalar
from mtl_ray.config.data import NULL_WORDS
from mtl_ray.values.canonical import decoded, plain
from mtl_ray.values.keys import to_keys
from mtl_ray.values.numbers import parse_numbers

FALSE, TRUE = ("0", "no", "n", "f", "off"), ("1", "yes", "y", "t", "on")
"""Keys, in lower case, of false and true; "false" and "true" themselves have the keys "0" and "1"."""


def parse_booleans(
    values: pa.Array | pa.ChunkedArray, null_words: tuple[str, ...] = NULL_WORDS
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) float64: 1, 0, or NaN where there is neither; and (n,) bool flags of cells that are not booleans.

    Numbers 0 and 1 and the words of `FALSE` and `TRUE` are booleans. Null, a blank text and the words of `null_words`
    are absent.
    """
    values = plain(values)
    if pa.types.is_primitive(values.type) and not pa.types.is_temporal(values.type):
        numbers, _ = parse_numbers(values)
        flags = np.where(np.isin(numbers, (0, 1)), numbers, np.nan)
        return flags, np.isnan(flags) & ~np.isnan(numbers)
    keys = to_keys(values)
    flags = _flags(keys)
    return flags, np.isnan(flags) & ~np.asarray(keys.is_null()) & ~is_word(keys, null_words)


def mend_booleans(values: pa.Array, null_words: tuple[str, ...] = NULL_WORDS) -> tuple[pa.Array, dict[str, int]]:
    """Return the column with unusable cells set to null, and how many cells that concerns by reason."""
    values = decoded(plain(values))
    _, wrong = parse_booleans(values, null_words)
    return pc.if_else(pa.array(wrong), None, values), {"is not 0 or 1": int(wrong.sum())}


def is_word(keys: pa.Array, words: tuple[str, ...]) -> np.ndarray:
    """Return (n,) bool: whether a key is one of some words, in any case."""
    lower = pa.array([word.lower() for word in words], pa.string())
    return np.asarray(pc.is_in(pc.utf8_lower(keys), value_set=lower))


def equals(values: pa.Array | pa.ChunkedArray, setting: Scalar) -> np.ndarray:
    """Return (n,) bool: whether a cell is the value that a setting names; a null is none.

    True and false are compared as booleans (`parse_booleans`), everything else by its key.
    """
    return key_equals(to_keys(values), setting)


def key_equals(keys: pa.Array, setting: Scalar) -> np.ndarray:
    """Return `equals` for values whose keys are these."""
    if isinstance(setting, bool):
        return _flags(keys) == setting
    return np.asarray(pc.equal(keys, to_keys(pa.array([str(setting)]))[0]).fill_null(False))


def _flags(keys: pa.Array) -> np.ndarray:
    place = pc.index_in(pc.utf8_lower(keys), value_set=pa.array([*FALSE, *TRUE])).fill_null(-1)
    place = place.to_numpy(zero_copy_only=False)
    return np.where(place < 0, np.nan, place >= len(FALSE))
