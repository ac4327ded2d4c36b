"""Numeric columns, which may hold numbers as text."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.data import NULL_WORDS
from mtl_ray.errors import InputError
from mtl_ray.values.canonical import decoded, plain

__all__ = ["NULL_WORDS", "bad_numbers", "mend_numbers", "parse_numbers", "to_numbers"]

LARGEST = float(np.sqrt(np.finfo(np.float32).max))
"""About 1.8e19: the largest number whose square is finite in the model's float32."""

NUMBER = r"^\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:[+-]?inf(inity)?))\s*$"


def to_numbers(values: pa.Array, null_words: tuple[str, ...] = NULL_WORDS, column: str = "values") -> np.ndarray:
    """Return (n,) float64, NaN for null. Raises InputError for a value of `column` that is not a number."""
    numbers, wrong = parse_numbers(values, null_words)
    if wrong.any():
        raise InputError(f"{column}: expected numbers, found {values[int(np.flatnonzero(wrong)[0])].as_py()!r}")
    return numbers


def parse_numbers(values: pa.Array, null_words: tuple[str, ...] = NULL_WORDS) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) float64 numbers, NaN where there is none, and (n,) bool flags of cells that are not numbers.

    True and false, as text too, are 1 and 0. Null, NaN, a blank text and the words of `null_words`, in any case, are
    simply absent. Whole numbers beyond 2^53 are rounded to the next float64.
    """
    values = decoded(plain(values))
    nothing, kind = np.zeros(len(values), bool), values.type
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan), nothing
    if pa.types.is_string(kind):
        return _parse_texts(values, null_words)
    if pa.types.is_temporal(kind) or pa.types.is_nested(kind):
        return np.full(len(values), np.nan), np.asarray(values.is_valid())
    return _floats(values), nothing


def _floats(values: pa.Array) -> np.ndarray:
    return values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)


def _parse_texts(values: pa.Array, null_words: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    texts = pc.utf8_trim_whitespace(values)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    try:
        numbers = _floats(texts)
        odd = np.isnan(numbers) & np.asarray(texts.is_valid())  # Arrow reads some spellings of NaN
    except pa.ArrowInvalid:
        odd = ~np.asarray(pc.match_substring_regex(texts, NUMBER).fill_null(True))
        numbers = _floats(pc.if_else(pa.array(odd), None, texts))
    if not odd.any():
        return numbers, odd
    words = pc.utf8_lower(without_words(texts.filter(pa.array(odd)), null_words))
    place = pc.index_in(words, value_set=pa.array(["false", "true"])).fill_null(-1).to_numpy(zero_copy_only=False)
    numbers = numbers.copy()
    numbers[odd] = np.where(place < 0, np.nan, place)
    odd[odd] = (place < 0) & np.asarray(words.is_valid())
    return numbers, odd


def without_words(texts: pa.Array, null_words: tuple[str, ...]) -> pa.Array:
    """Return texts with null in place of blanks and of the words of `null_words`, in any case."""
    words = pa.array(["", *(word.lower() for word in null_words)])
    return pc.if_else(pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), value_set=words), None, texts)


def bad_numbers(numbers: np.ndarray, wrong: np.ndarray, column: str) -> Iterator[tuple[np.ndarray, str]]:
    """Yield (n,) flags of unusable cells with the reason, from what `parse_numbers` returned for `column`."""
    yield wrong, f"{column} is not a number"
    yield np.isinf(numbers), f"{column} is not finite"
    yield np.abs(numbers) > LARGEST, f"{column} is beyond {LARGEST:.2g}"


def mend_numbers(values: pa.Array, null_words: tuple[str, ...] = NULL_WORDS) -> tuple[pa.Array, dict[str, int]]:
    """Return the column as numbers, null where a cell is unusable, and how many cells that concerns by reason."""
    numbers, wrong = parse_numbers(values, null_words)
    infinite, large = wrong | np.isinf(numbers), np.isfinite(numbers) & (np.abs(numbers) > LARGEST)
    mended = pa.array(np.where(infinite | large, np.nan, numbers), from_pandas=True)
    return mended, {"is not a finite number": int(infinite.sum()), f"is beyond {LARGEST:.2g}": int(large.sum())}
