"""Numeric columns, which may hold numbers as text."""

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.storage import is_text
from mtl_ray.values.keys import decoded

LARGEST = float(np.sqrt(np.finfo(np.float32).max))
"""About 1.8e19: the largest number whose square is finite in the model's float32."""

NUMBER = r"^\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf)?\s*$"


def to_numbers(values: pa.Array) -> np.ndarray:
    """Return (n,) float64, NaN for null. Raises ValueError for text that is not a number."""
    values = decoded(values)
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("ns")).cast(pa.int64())
    if is_text(values.type):
        values = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.equal(values, ""), None, values)
    return values.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False)


def parse_numbers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) float64 numbers, NaN where there is none, and (n,) bool flags of cells that are not numbers.

    A NaN in the column is not a number, a null is simply absent.
    """
    try:
        numbers = to_numbers(values)
        wrong = np.zeros(len(values), bool)
    except ValueError:
        good = np.asarray(pc.match_substring_regex(values, NUMBER).fill_null(True))
        wrong = ~good
        numbers = to_numbers(pc.if_else(pa.array(good), values, None))
    if pa.types.is_floating(values.type):
        wrong = wrong | np.asarray(pc.is_nan(values).fill_null(False))
    return numbers, wrong


def bad_numbers(numbers: np.ndarray, wrong: np.ndarray, column: str) -> Iterator[tuple[np.ndarray, str]]:
    """Yield (n,) flags of unusable cells with the reason, from what `parse_numbers` returned for `column`."""
    yield wrong, f"{column} is not a number"
    yield np.isinf(numbers), f"{column} is not finite"
    yield np.abs(numbers) > LARGEST, f"{column} is beyond {LARGEST:.2g}"


def mend_numbers(values: pa.Array) -> tuple[pa.Array, dict[str, int]]:
    """Return the column as numbers, null where a cell is unusable, and how many cells that concerns by reason."""
    numbers, wrong = parse_numbers(values)
    infinite, large = wrong | np.isinf(numbers), np.isfinite(numbers) & (np.abs(numbers) > LARGEST)
    mended = pa.array(np.where(infinite | large, np.nan, numbers), from_pandas=True)
    return mended, {"is not a finite number": int(infinite.sum()), f"is beyond {LARGEST:.2g}": int(large.sum())}
