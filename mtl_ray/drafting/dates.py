"""Dates and times that are written as text, and numbers that count from 1970."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from mtl_ray.values.times import parse_times

ISO = "iso"
COMPACT = "%Y%m%d"
DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y")
CLOCKS = ("", " %H:%M:%S", " %H:%M", ", %H:%M")
SIGNS = re.compile(r"^\s*(\d{1,4}\s*[-/. ]\s*(\d{1,2}|[A-Za-z]{3,9})\s*[-/. ]|[A-Za-z]{3,9}\s+\d{1,2},?\s)")
"""How a date begins that is not written in ISO 8601."""
COVERED, GAIN = 0.95, 0.01
"""Shares of rows: that formats must read, and that another format must add."""
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
FIRST, LAST = 6e8, 4.1e9
"""Seconds since 1970 of 1989 and 2099: numbers in between may be instants."""


def formats_of(texts: Sequence[str], counts: np.ndarray) -> tuple[str, ...]:
    """Return the formats in which texts are dates, `ISO` or those of strptime, the most frequent first; else nothing.

    Args:
        texts: different texts.
        counts: (n,) rows with each.
    """
    _, dates, _ = parse_times(pa.array(texts, pa.string()))
    rest, total, found = ~dates, counts.sum(), [ISO] if dates.any() else []
    if counts[rest].sum() > total / 2 and not _look_like_dates(texts, counts, rest):
        return ()
    while counts[rest].sum() > (1 - COVERED) * total or (found and _look_like_dates(texts, counts, rest)):
        unread = pd.Series(np.array(texts, dtype=object)[rest])
        best, read = max(((form, _reads(unread, form)) for form in _formats()), key=lambda pair: counts[rest] @ pair[1])
        if counts[rest] @ read < GAIN * total:
            break
        found.append(best)
        rest[np.flatnonzero(rest)[read]] = False
    return tuple(found) if counts[rest].sum() <= (1 - COVERED) * total else ()


def unit_of(numbers: np.ndarray) -> str | None:
    """Return the unit in which numbers count from 1970, told by their size; None if they do not.

    Args:
        numbers: (n,) float64, NaN for none.
    """
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        return None
    low, high = np.quantile(present, [0.01, 0.99])
    return next((unit for unit, size in UNITS.items() if FIRST * size <= low and high <= LAST * size), None)


def are_compact(numbers: np.ndarray) -> bool:
    """Return whether (n,) numbers are dates such as 20260131; NaN is none."""
    present = np.unique(numbers[~np.isnan(numbers)])
    if not len(present) or (present < 19_000_101).any() or (present > 21_001_231).any():
        return False
    texts = pd.Series(present.astype(np.int64).astype(str))
    return bool(pd.to_datetime(texts, format=COMPACT, errors="coerce").notna().all())


def _formats() -> list[str]:
    return [date + clock for clock in CLOCKS for date in DATES]


def _reads(texts: pd.Series, form: str) -> np.ndarray:
    return pd.to_datetime(texts, format=form, errors="coerce").notna().to_numpy()


def _look_like_dates(texts: Sequence[str], counts: np.ndarray, chosen: np.ndarray) -> bool:
    if not chosen.any():
        return False
    looks = np.array([bool(SIGNS.match(texts[int(place)] + " ")) for place in np.flatnonzero(chosen)])
    return bool(counts[chosen] @ looks > 0.5 * counts[chosen].sum())
