"""Columns that hold a list of values in each row, to arrays of fixed length."""

import ast
import json
import re
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.values.canonical import content_of, decoded, flat, plain
from mtl_ray.values.keys import normalised, to_keys
from mtl_ray.values.vectors import as_variable, is_lists

WORDS = r"[^\p{L}\p{M}\p{N}]+"
"""What separates words: all but letters, the marks that belong to them in many scripts, and digits."""


WRITTEN_LIST = r"^\s*\[.*\]\s*$"
"""A list that is written out, as in `["drama", "war"]`."""


def to_lists(values: pa.Array, separator: str | None = None) -> pa.ListArray:
    """Return lists of text keys; null stays null.

    Args:
        values: lists, or texts to split; with a separator a text may also be a list in JSON, or as pandas writes one.
        separator: what separates the values of a text; None splits it into lower-case words and numbers.

    Raises:
        ValueError: the entries of lists are lists, structs or maps themselves.
    """
    values = as_variable(decoded(plain(values)))
    if is_lists(values.type):
        lists = values
    elif separator is None:
        lists = pc.split_pattern_regex(pc.utf8_lower(normalised(_texts(values))), WORDS)
    else:
        lists = _split(_texts(values), separator)
    filled = lists.fill_null([])
    keys = to_keys(filled.flatten(), words=separator is None)
    parents = pc.list_parent_indices(filled).to_numpy(zero_copy_only=False)
    kept = np.asarray(keys.is_valid())  # blanks, as in "a||b" or around the punctuation of a title, are no entries
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parents[kept], minlength=len(lists)))])
    mask = flat(lists.is_null())
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), keys.filter(pa.array(kept)), mask=mask)


def _texts(values: pa.Array) -> pa.Array:
    return values if pa.types.is_string(values.type) else to_keys(values)


def _split(texts: pa.Array, separator: str) -> pa.ListArray:
    lists = pc.split_pattern(texts, separator)
    if b"[" not in content_of(texts):
        return lists
    rows = zip(texts.to_pylist(), lists.to_pylist(), strict=True)
    return pa.array([entries if text is None else _written(text) or entries for text, entries in rows], lists.type)


def _written(text: str) -> list[str] | None:
    """Return the entries of a list that is written out as text; None if it is none, or one without entries."""
    if not re.fullmatch(WRITTEN_LIST, text):
        return None
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            entries = read(text.strip())
            return [str(entry) for entry in entries if entry is not None] or [""]
    return None


def to_arrow(values: np.ndarray) -> pa.Array:
    """Return (n,) or (n, length) numbers as a column; rows of (n, length) become fixed-size lists."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def from_arrow(column: pa.Array) -> np.ndarray:
    """Return the numbers of a column: (n,), or (n, length) for fixed-size lists."""
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else None
    values = (column.flatten() if width else column).to_numpy(zero_copy_only=False)
    return values.reshape(-1, width) if width else values


def first_entries(values: np.ndarray, lists: pa.Array, length: int) -> np.ndarray:
    """Return (n, length): the first entries of each list, whose flattened values are `values`; see `gather`."""
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    return gather(values, np.cumsum(sizes) - sizes, np.minimum(sizes, length), length)


def last_entries(values: np.ndarray, lists: pa.Array, length: int) -> np.ndarray:
    """Return (n, length): the last entries of each list, whose flattened values are `values`; see `gather`."""
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    kept = np.minimum(sizes, length)
    return gather(values, np.cumsum(sizes) - kept, kept, length)


def gather(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray, length: int) -> np.ndarray:
    """Return (n, length): row i is `values[starts[i] : starts[i] + sizes[i]]`, padded on the right with 0."""
    steps = np.arange(length)
    inside = steps < sizes[:, None]
    positions = np.where(inside, starts[:, None] + steps, 0)
    return np.where(inside, values[positions] if len(values) else 0, 0).astype(values.dtype)
