"""Rows of a log, made of events: one of each user, item and unit."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.base import Scalar
from mtl_ray.config.tables import EventsSourceConfig, EventValueConfig
from mtl_ray.parquet import is_text
from mtl_ray.values.booleans import key_equals
from mtl_ray.values.canonical import decoded, flat
from mtl_ray.values.columns import raw_values
from mtl_ray.values.keys import to_keys
from mtl_ray.values.money import as_numbers
from mtl_ray.values.numbers import parse_numbers, without_words
from mtl_ray.values.partition import FILE, ITEM, ROW, TIME, USER


def rows_of(
    source: EventsSourceConfig, events: pa.Table, columns: Sequence[str], null_words: tuple[str, ...]
) -> pa.Table:
    """Return the rows of staged events, in the order of their first events.

    Args:
        source: how rows are made.
        events: staged events in time order, without repeats.
        columns: columns of the rows.
        null_words: `data.null_words`.

    Returns:
        The columns, and the place of each row's first event in the log.
    """
    table = pa.table({name.removeprefix("raw."): flat(events.column(name)) for name in events.column_names})
    groups = _groups(source, table)
    num_rows = int(groups.max(initial=-1)) + 1
    labels = _labels(source, table, groups, num_rows)
    rows = {}
    for name in columns:
        if name in labels:
            rows[name] = pa.array(labels[name].astype(np.int8))
        elif name in source.values:
            rows[name] = _number(source, source.values[name], table, groups, num_rows, null_words)
        else:
            values = flat(table.column(name))
            rows[name] = decoded(_taken(values, _firsts(groups, num_rows, _is_there(values))))
    begins = _firsts(groups, num_rows, np.ones(len(table), bool))
    places = {FILE: "_file", ROW: "_row"}
    return pa.table(rows | {new: decoded(_taken(flat(table.column(own)), begins)) for new, own in places.items()})


def events_of(source: EventsSourceConfig, table: pa.Table, values: Scalar | tuple[Scalar, ...]) -> np.ndarray:
    """Return (n,) bool: whether events have one of some values of the column `event`; of no values, all have."""
    wanted = values if isinstance(values, tuple) else (values,)
    if not wanted or source.event is None:
        return np.ones(len(table), bool)
    keys = to_keys(raw_values(table, source.event))
    return np.any([key_equals(keys, value) for value in wanted], axis=0)


def _groups(source: EventsSourceConfig, table: pa.Table) -> np.ndarray:
    """Return (n,) int64 the row of each event; rows are numbered in the order of their first events."""
    codes = np.zeros(len(table), np.int64)
    keys = [flat(table.column(name)) for name in (USER, ITEM)] + [to_keys(table.column(name)) for name in source.unit]
    for values in keys:
        encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        own = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        codes = pd.factorize(codes * max(1, len(encoded.dictionary)) + own)[0]
    if source.window is None:
        return codes
    return _cut(codes, table.column(TIME).to_numpy(), source.window)


def _cut(groups: np.ndarray, times: np.ndarray, window: float) -> np.ndarray:
    """Cut groups of events, which are in time order, where one is further than `window` from the first of its row."""
    order = np.argsort(groups, kind="stable")
    is_first, current, start = np.zeros(len(groups), bool), -1, 0.0
    for place, (group, time) in enumerate(zip(groups[order].tolist(), times[order].tolist(), strict=True)):
        if group != current or time - start > window:
            is_first[place], current, start = True, group, time
    numbers = np.zeros(len(groups), np.int64)
    numbers[order] = np.cumsum(is_first)
    return pd.factorize(numbers)[0]


def _labels(source: EventsSourceConfig, table: pa.Table, groups: np.ndarray, num_rows: int) -> dict[str, np.ndarray]:
    """Return (num_rows,) bool of each label: whether one of the row's events sets it, or a later step of the chain."""
    labels = {}
    for name, values in source.all_labels.items():
        labels[name] = np.zeros(num_rows, bool)
        labels[name][groups[events_of(source, table, values)]] = True
    for later, earlier in pairwise(reversed(source.chain)):
        labels[earlier] |= labels[later]
    return labels


def _number(
    source: EventsSourceConfig,
    value: EventValueConfig,
    table: pa.Table,
    groups: np.ndarray,
    num_rows: int,
    null_words: tuple[str, ...],
) -> pa.Array:
    """Return (num_rows,) numbers made of the events of each row, null where there is none to make it of."""
    is_meant = events_of(source, table, value.of)
    cells = decoded(raw_values(table, value.column)) if value.column else pa.array(is_meant)
    if value.by == "count":
        is_meant = is_meant & _is_there(without_words(cells, null_words) if is_text(cells.type) else cells)
        return pa.array(np.bincount(groups[is_meant], minlength=num_rows))
    numbers, _ = parse_numbers(as_numbers(cells, value, null_words), null_words)
    is_meant = is_meant & ~np.isnan(numbers)
    if value.by in ("first", "last"):
        places = (_firsts if value.by == "first" else _lasts)(groups, num_rows, is_meant)
        return _taken(pa.array(numbers), places)
    counts = np.bincount(groups[is_meant], minlength=num_rows)
    if value.by == "max":
        found = np.full(num_rows, -np.inf)
        np.maximum.at(found, groups[is_meant], numbers[is_meant])
    else:
        found = np.bincount(groups[is_meant], numbers[is_meant], num_rows)
        found = found / np.maximum(counts, 1) if value.by == "mean" else found
    return pa.array(found, mask=counts == 0)


def _firsts(groups: np.ndarray, num_rows: int, is_meant: np.ndarray) -> np.ndarray:
    """Return (num_rows,) int64 position of the first event of each row that is meant, -1 where there is none."""
    return _of_each(groups, num_rows, np.flatnonzero(is_meant)[::-1])


def _lasts(groups: np.ndarray, num_rows: int, is_meant: np.ndarray) -> np.ndarray:
    return _of_each(groups, num_rows, np.flatnonzero(is_meant))


def _of_each(groups: np.ndarray, num_rows: int, places: np.ndarray) -> np.ndarray:
    found = np.full(num_rows, -1)
    found[groups[places]] = places  # of several places of a row the last one stays
    return found


def _taken(values: pa.Array, places: np.ndarray) -> pa.Array:
    """Return the values at some places, null for a negative one."""
    return values.take(pa.array(places, mask=places < 0))


def _is_there(values: pa.Array) -> np.ndarray:
    """Return (n,) bool: whether a cell has a value: it is not null, NaN or blank."""
    if pa.types.is_dictionary(values.type):
        indices = values.indices.fill_null(len(values.dictionary)).to_numpy(zero_copy_only=False)
        return np.append(_is_there(values.dictionary), False)[indices]
    there = ~np.asarray(values.is_null(nan_is_null=True))
    if is_text(values.type):
        there &= np.asarray(pc.not_equal(pc.utf8_trim_whitespace(values), "").fill_null(False))
    return there
