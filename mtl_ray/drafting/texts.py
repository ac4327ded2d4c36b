"""What texts of a column are: money, sets with a separator, prose."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.values.lists import WRITTEN_LIST

_SIGN = r"(?:[€$£¥₽₹₩]|[A-Z]{3}|kr|zł)"
MONEY = rf"^\s*[+-]?\s*(?:{_SIGN}\s*)?[+-]?\d+(?:[., '\x{{00a0}}\x{{202f}}]\d{{2,3}})*\s*(?:{_SIGN})?\s*$"
MARK = rf"{_SIGN}|\d[,.' ]\d{{3}}"
MOSTLY, FEWEST_MARKS = 0.95, 0.01
SEPARATORS = {"|": 0.9, ";": 0.9, " > ": 0.9, ",": 0.5, "/": 0.5}
"""What may separate the entries of a set, and how many of all entries may be different ones: commas and slashes are in
other texts, too."""
FEWEST_SETS = 0.05
"""Smallest share of the cells that have a separator."""
LONGEST_WORDS = 3
"""Most words of nearly all entries of a set: with more it is prose with commas."""
PROSE_WORDS = 2.0
"""Fewest words of a text, on average."""
FEWEST_TEXTS = 50
MOST_TEXTS = 20_000
"""Most different texts that are taken apart."""


def are_money(texts: pa.Array, counts: np.ndarray) -> bool:
    """Return whether nearly all of the different texts, weighted by their rows, are amounts, some with a currency."""
    are_amounts = _share(pc.match_substring_regex(texts, MONEY), counts) >= MOSTLY
    return are_amounts and _share(pc.match_substring_regex(texts, MARK), counts) >= FEWEST_MARKS


def are_links(texts: pa.Array, counts: np.ndarray) -> bool:
    """Return whether nearly all of the different texts, weighted by their rows, are addresses of web pages."""
    return _share(pc.match_substring_regex(texts, r"^\s*https?://"), counts) >= MOSTLY


def separator_of(texts: pa.Array, counts: np.ndarray) -> str | None:
    """Return what separates the values within texts that are sets; None if they are none.

    A list that is written out (`["a", "b"]`) is a set with any separator. The entries of sets are short and come again
    in other sets.
    """
    if _share(pc.match_substring_regex(texts, WRITTEN_LIST), counts) >= MOSTLY:
        return "|"
    some = _every(texts, MOST_TEXTS)
    for separator, most in SEPARATORS.items():
        if _share(pc.match_substring(texts, separator), counts) < FEWEST_SETS:
            continue
        parts = [[entry.strip() for entry in text.split(separator) if entry.strip()] for text in some.to_pylist()]
        entries = [entry for part in parts for entry in part]
        different = set(entries)
        short = sum(len(entry.split()) <= LONGEST_WORDS for entry in entries)
        if any(map(_is_date_or_number_part, different)) and separator in ",/":
            continue
        if short >= MOSTLY * len(entries) and len(different) <= most * len(entries):
            return separator
    return None


def prose_length(texts: pa.Array, num_rows: int) -> int | None:
    """Return how many words nearly all texts have, if they are titles or prose; else None."""
    some = _every(texts, MOST_TEXTS).to_pylist()
    words = np.array([len(re.findall(r"\w+", text)) for text in some])
    is_varied = len(texts) >= FEWEST_TEXTS or 2 * len(texts) > num_rows
    if not is_varied or words.mean() < PROSE_WORDS:
        return None
    return int(np.clip(np.quantile(words, MOSTLY), 5, 100))


def folds(texts: Sequence[str]) -> bool:
    """Return whether some of the texts differ in case or blanks alone."""
    return len({text.strip().casefold() for text in texts}) < len(texts)


def _is_date_or_number_part(entry: str) -> bool:
    return bool(re.search(r"[\[\](){}:]|\d\.\d", entry))


def _share(matches: pa.Array, counts: np.ndarray) -> float:
    flags = np.asarray(matches.fill_null(False))
    return float(counts @ flags / max(1, counts.sum()))


def _every(texts: pa.Array, most: int) -> pa.Array:
    step = -(-len(texts) // most)
    return texts.take(pa.array(range(0, len(texts), step), pa.int64())) if step > 1 else texts
