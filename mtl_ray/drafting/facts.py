"""What the values of one column are, whatever the order of rows."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.drafting import dates, texts
from mtl_ray.drafting.names import BIRTHS, DATES, TIMES, is_id, tokens
from mtl_ray.values.booleans import parse_booleans
from mtl_ray.values.canonical import decoded, is_single, plain
from mtl_ray.values.keys import to_keys
from mtl_ray.values.numbers import NULL_WORDS, parse_numbers, without_words
from mtl_ray.values.times import is_date, parse_times
from mtl_ray.values.vectors import as_variable, digests, is_lists, is_vectors

Form = Literal[
    "nested", "empty", "constant", "flag", "number", "money", "date", "set", "vector", "image", "text", "category"
]
NUMBERS, LEAST_NUMBERS, MOST_WORDS = 0.99, 0.5, 3
"""Share of the cells of a column of numbers that are numbers; with fewer, at most so many words that stand for none."""
SMALLEST_VECTOR, SMALLEST_IMAGE = 3, 64


@dataclass(frozen=True)
class Facts:
    """What was found of a column."""

    name: str
    form: Form
    values: pa.Array
    codes: np.ndarray
    """(n,) int64, place of each value among the different ones, -1 for none."""
    different: pa.Array
    """Different values as text keys, in their order."""
    formats: tuple[str, ...] = ()
    """Of dates that are text, see `dates.formats_of`."""
    unit: str | None = None
    """In which numbers may count from 1970."""
    null_words: tuple[str, ...] = ()
    """Words in the place of numbers, beside the usual ones."""
    separator: str | None = None
    size: int = 0
    """Numbers of a vector or image; words of a text."""
    shape: tuple[int, int, int] = field(default=(0, 0, 0))
    folds: bool = False
    """True if some values differ in case alone."""

    @property
    def num_rows(self) -> int:
        """Rows of the column."""
        return len(self.codes)

    @property
    def num_present(self) -> int:
        """Rows with a value."""
        return int((self.codes >= 0).sum())

    @property
    def is_unique(self) -> bool:
        """True if no value comes twice."""
        return 1 < len(self.different) == self.num_present

    @property
    def is_whole(self) -> bool:
        """True for whole numbers."""
        present = self.numbers[~np.isnan(self.numbers)]
        return self.form in ("number", "flag") and bool((present == np.floor(present)).all())

    @cached_property
    def numbers(self) -> np.ndarray:
        """(n,) float64 numbers or flags, NaN where there is none."""
        if self.form == "flag":
            return parse_booleans(self.values)[0]
        return parse_numbers(self.values, (*NULL_WORDS, *self.null_words))[0]

    @cached_property
    def bad(self) -> np.ndarray:
        """(n,) bool: cells that are not what nearly all others are, a number or a time."""
        if self.form == "number":
            return parse_numbers(self.values, (*NULL_WORDS, *self.null_words))[1]
        return np.zeros(self.num_rows, bool)

    @cached_property
    def counts(self) -> np.ndarray:
        """Rows with each of the different values."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.different))

    @property
    def is_key(self) -> bool:
        """True if the values may be ids."""
        known = len(self.different)
        if self.form == "number":
            return self.is_whole
        return self.form in ("category", "flag", "text") and known > 1


def facts_of(name: str, column: pa.Array | pa.ChunkedArray) -> Facts:
    """Look at a column."""
    values = as_variable(decoded(plain(column)))
    keys = _keys(values)
    if keys is None:
        return Facts(name, "nested", values, np.full(len(values), -1), pa.array([], pa.string()))
    encoded = keys.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary)
    place = np.empty(len(order), np.int64)
    place[np.asarray(order)] = np.arange(len(order))
    codes = np.append(place, -1)[encoded.indices.fill_null(len(place)).to_numpy(zero_copy_only=False)]
    different = encoded.dictionary.take(order)
    known = Facts(name, "category", values, codes, different)
    form, more = _form(known)
    return Facts(name, form, values, codes, different, **more)


def _keys(values: pa.Array) -> pa.Array | None:
    if is_vectors(values.type):
        return digests(values)
    if is_lists(values.type) and is_single(values.type.value_type):
        return pc.binary_join(values.cast(pa.list_(pa.string())), "|")
    return to_keys(values) if is_single(values.type) else None


def _form(known: Facts) -> tuple[Form, dict]:
    values, different = known.values, known.different
    if not len(different):
        return "empty", {}
    if is_vectors(values.type) and (size := _one_length(values)):
        shape = _shape(values, size)
        return ("image", {"size": size, "shape": shape}) if shape else ("vector", {"size": size})
    if is_lists(values.type):
        return "set", {"separator": ""}
    if len(different) == 1:
        return "constant", {}
    if is_date(values.type):
        return "date", {}
    if _are_flags(values):
        return "flag", {}
    if (found := _as_numbers(known)) is not None:
        return found
    return _as_texts(known) if pa.types.is_string(values.type) else ("category", {})


def _one_length(values: pa.Array) -> int | None:
    """Return the length of all lists, if they have one that is not that of a short list of ids."""
    lengths = pc.list_value_length(values).drop_null().unique().to_pylist()
    return lengths[0] if len(lengths) == 1 and lengths[0] >= SMALLEST_VECTOR else None


def _shape(values: pa.Array, size: int) -> tuple[int, int, int] | None:
    """Return height, width and channels of lists that are square images of bytes; None if they are none."""
    numbers = values.flatten().cast(pa.float32(), safe=False).drop_null().to_numpy(zero_copy_only=False)
    are_bytes = not (numbers != np.floor(numbers)).any() and numbers.min() >= 0 and 16 < numbers.max() <= 255
    for channels in (3, 1, 4):
        side = round((size / channels) ** 0.5)
        if are_bytes and size >= SMALLEST_IMAGE and side * side * channels == size:
            return side, side, channels
    return None


def _are_flags(values: pa.Array) -> bool:
    flags, wrong = parse_booleans(values)
    return not wrong.any() and {0.0, 1.0} <= set(flags[~np.isnan(flags)])


def _as_numbers(known: Facts) -> tuple[Form, dict] | None:
    numbers, wrong = parse_numbers(known.values)
    present = ~np.isnan(numbers)
    share = present.sum() / max(1, (present | wrong).sum())
    more: dict = {}
    if share < NUMBERS:
        words = known.different.take(pa.array(np.unique(known.codes[wrong & (known.codes >= 0)]), pa.int64()))
        has_digits = pc.any(pc.match_substring_regex(words, r"\d")).as_py()
        if share < LEAST_NUMBERS or len(words) > MOST_WORDS or has_digits or len(np.unique(numbers[present])) < 3:
            return None
        more["null_words"] = tuple(words.to_pylist())
    said = set(tokens(known.name))
    if said & (DATES | TIMES | BIRTHS) and dates.are_compact(numbers):
        return "date", {"formats": (dates.COMPACT,)}
    return "number", {**more, "unit": None if is_id(known.name) else dates.unit_of(numbers)}


def _as_texts(known: Facts) -> tuple[Form, dict]:
    cells = without_words(known.different, NULL_WORDS)
    kept = np.asarray(cells.is_valid())
    different, counts = known.different.filter(pa.array(kept)), known.counts[kept]
    if len(different) < 2:
        return "constant" if len(different) else "empty", {}
    if formats := dates.formats_of(different.to_pylist(), counts):
        return "date", {"formats": formats}
    if texts.are_money(different, counts):
        return "money", {}
    if separator := texts.separator_of(different, counts):
        return "set", {"separator": separator}
    if length := texts.prose_length(different, int(counts.sum())):
        return "text", {"size": length}
    raw = known.values.unique().drop_null().to_pylist()
    return "category", {"folds": len(raw) <= FEW_CATEGORIES and texts.folds(raw)}


FEW_CATEGORIES = 1_000
"""Most categories among which spellings of the same one are looked for: more are mostly ids, whose case counts."""


def bad_times(facts: Facts) -> np.ndarray:
    """Return (n,) bool: rows without a time that can be read."""
    times, _, wrong = parse_times(facts.values)
    return wrong | np.isnan(times)
