"""Instants: timestamps, dates and texts in ISO 8601 as seconds since 1970; without a zone they are in UTC."""

import re
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.formats import ISO
from mtl_ray.values.canonical import decoded, plain
from mtl_ray.values.numbers import NULL_WORDS, parse_numbers, without_words

ISO_DATE = (
    r"^\s*(?P<date>\d{4}-\d{2}-\d{2})([T ](?P<time>\d{2}(:\d{2}(:\d{2})?)?)([.,](?P<fraction>\d{1,6})\d*)?)?"
    r"\s*(?P<zone>Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)?\s*$"
)
"""A date, with or without a time and a zone."""

PARTS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Units in a second."""

YEAR_1990, YEAR_2100 = 631_152_000, 4_102_444_800
"""Seconds since 1970."""


def parse_times(
    values: pa.Array, null_words: tuple[str, ...] = NULL_WORDS, formats: Sequence[str] = ISO
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a column of times holds.

    Args:
        values: timestamps, dates, numbers or texts.
        null_words: words that mean no time.
        formats: how times are written that are neither timestamps nor dates, see `TimeFormats`. Other formats than
            `iso` alone are tried in turn, and numbers are read by them, too, such as 20240501 by `%Y%m%d`.

    Returns:
        (n,) float64 times, NaN where there is none: seconds since 1970 for timestamps, dates and ISO texts (to the
        microsecond), numbers as they are; (n,) bool flags of dates; (n,) bool flags of cells that are no time.
    """
    values = decoded(plain(values))
    if is_date(values.type):
        times = seconds(values)
        return times, ~np.isnan(times), np.zeros(len(values), bool)
    if tuple(formats) != ISO and not pa.types.is_nested(values.type):
        texts = without_words(values.cast(pa.string()), null_words)
        times = _written_seconds(texts, formats)
        return times, ~np.isnan(times), np.asarray(texts.is_valid()) & np.isnan(times)
    if pa.types.is_string(values.type):
        values = without_words(values, null_words)
    if pa.types.is_string(values.type) and (found := _iso_column(values)) is not None:
        return found, ~np.isnan(found), np.zeros(len(values), bool)
    numbers, wrong = parse_numbers(values, null_words)
    dates = np.zeros(len(values), bool)
    if wrong.any() and pa.types.is_string(values.type):
        numbers = numbers.copy()
        found = _iso_seconds(values.filter(pa.array(wrong)))
        numbers[wrong] = found
        dates[np.flatnonzero(wrong)[~np.isnan(found)]] = True
    return numbers, dates, wrong & ~dates


def is_date(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds timestamps or dates."""
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def seconds(values: pa.Array) -> np.ndarray:
    """Return (n,) float64 seconds since 1970 of timestamps or dates, NaN for null."""
    if pa.types.is_date(values.type):
        values = values.cast(pa.date32()).cast(pa.timestamp("s"))
    unit, number = values.type.unit, values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if unit == "ns":
        unit, number = "us", number // 1_000
    whole, part = np.divmod(number, PARTS[unit])
    # The nearest float to the instant, whatever the unit: a division rounds once, if what it divides is exact.
    times = np.where(np.abs(number) < 2**53, number / PARTS[unit], whole + part / PARTS[unit])
    return np.where(np.asarray(values.is_valid()), times, np.nan)


def unit_of(low: float, high: float) -> int | None:
    """Return how many units of numbers from `low` to `high` a second has, if they count from 1970 in a usual unit.

    They do if they then lie between 1990 and 2100; no number does so in two of the units.
    """
    return next((unit for unit in PARTS.values() if YEAR_1990 * unit <= low and high <= YEAR_2100 * unit), None)


def instants(numbers: np.ndarray) -> np.ndarray:
    """Return (n,) float64 seconds since 1970 of numbers that count from then, see `unit_of`; NaN for others."""
    found = np.full(len(numbers), np.nan)
    for unit in PARTS.values():
        counts = (YEAR_1990 * unit <= numbers) & (numbers <= YEAR_2100 * unit)
        found[counts] = numbers[counts] / unit
    return found


def time_keys(values: pa.Array) -> pa.Array:
    """Return timestamps and dates as text keys: `2024-05-01`, with ` 13:45:00` and a fraction if they have them."""
    if not is_date(values.type):
        return values.cast(pa.string())
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp(values.type.unit))  # the instant in UTC
    text = pc.replace_substring_regex(values.cast(pa.string()), r"\.?0*$" if _has_fraction(values.type) else "$", "")
    return pc.replace_substring_regex(text, r" 00:00:00$", "")


def _has_fraction(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) and kind.unit != "s"


def _iso_column(texts: pa.Array) -> np.ndarray | None:
    """Return `_iso_seconds` of a column that Arrow, which is faster, reads as a whole; else None."""
    first = next((text.as_py() for text in texts if text.is_valid), "")
    if found := re.match(ISO_DATE, first):
        with suppress(pa.ArrowInvalid):
            return seconds(texts.cast(pa.timestamp("us", "UTC" if found["zone"] else None)))
    return None


def _iso_seconds(texts: pa.Array) -> np.ndarray:
    """Return (n,) float64 seconds since 1970 of texts in ISO 8601, NaN for other texts."""
    distinct = texts.dictionary_encode()
    parts = pd.Series(distinct.dictionary.to_pylist(), dtype=object).str.extract(ISO_DATE)
    fraction, zone = "." + parts["fraction"], parts["zone"].replace({"UTC": "Z", "GMT": "Z", "z": "Z"})
    whole = parts["date"] + "T" + parts["time"].fillna("00:00") + fraction.fillna("") + zone.fillna("Z")
    return _pandas_seconds(whole, "ISO8601")[distinct.indices.to_numpy()]


def _written_seconds(texts: pa.Array, formats: Sequence[str]) -> np.ndarray:
    """Return (n,) float64 seconds since 1970 of texts in any of some formats, NaN for others and for null."""
    distinct = texts.dictionary_encode()
    known = pc.utf8_trim_whitespace(distinct.dictionary)
    found = np.full(len(known) + 1, np.nan)  # the last one is that of null
    for each in formats:
        left = np.flatnonzero(np.isnan(found[:-1]))
        rest = known.take(pa.array(left))
        found[left] = (
            _iso_seconds(rest) if each == "iso" else _pandas_seconds(pd.Series(rest.to_pylist(), dtype=object), each)
        )
    return found[distinct.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)]


def _pandas_seconds(texts: pd.Series, written: str) -> np.ndarray:
    """Return (n,) float64 seconds since 1970 of texts in a format of pandas, NaN for others."""
    times = pd.DatetimeIndex(pd.to_datetime(texts, format=written, utc=True, errors="coerce"))
    return seconds(pa.array(times.tz_localize(None).as_unit("us"), pa.timestamp("us")))
