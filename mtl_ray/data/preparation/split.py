"""The split into training, validation and test rows: it depends on the seed and on the row alone, on any machine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.data import ColdSplitConfig, PredefinedSplitConfig, RandomSplitConfig, TimeSplitConfig
from mtl_ray.counter_rng import Stream, mix, uniform_keys
from mtl_ray.errors import InputError
from mtl_ray.values.booleans import equals
from mtl_ray.values.canonical import decoded
from mtl_ray.values.keys import hash_keys, to_keys
from mtl_ray.values.partition import ITEM, NONE, SHOWN, TEST, TIME, TRAIN, USER, VALID
from mtl_ray.values.times import parse_times, unit_of

HISTOGRAM_BINS = 1 << 16


@dataclass(frozen=True)
class Cuts:
    """Facts about the whole log that a split needs."""

    times: tuple[float, float] | None = None
    """First instants of the validation and of the test rows, for the time split."""
    first: pa.Table | None = None
    """The first interactions of each held-out item, for the cold split: (item, time, draw), see `earliest`."""
    holdout: float | None = None
    """First instant of the validation rows that are cut from the training rows, see `hold_out`."""
    borders: tuple[float, ...] = ()
    """Inner borders of the slices of time by which statistics are counted, see `slice_borders`."""


def assign(experiment: Experiment, table: pa.Table, file: pa.Array, draw: np.ndarray, cuts: Cuts) -> np.ndarray:
    """Return (n,) int8 split code of each row.

    Args:
        experiment: `data.split` and `data_seed` decide.
        table: staged rows in time order: keys, time and the raw columns.
        file: name of the file of each row.
        draw: (n,) see `row_draw`.
        cuts: see `Cuts`.
    """
    split, seed = experiment.data.split, experiment.data_seed
    match split:
        case RandomSplitConfig():
            return _by_share(draw, split.valid, split.test)
        case TimeSplitConfig():
            assert cuts.times is not None
            time = table.column(TIME).to_numpy()
            return np.where(time >= cuts.times[1], TEST, np.where(time >= cuts.times[0], VALID, TRAIN)).astype(np.int8)
        case ColdSplitConfig():
            user = uniform_keys(mix(hash_keys(to_keys(table.column(USER))), Stream.USER), seed)
            by_user, by_item = _by_share(user, split.valid_users, split.test_users), _item_codes(split, table, seed)
            codes = np.maximum(by_user, by_item)
            if split.shown_users or split.shown_items or split.evaluated_after:
                ranks, new_user, new_item = _ranks(table.column(USER)), by_user != TRAIN, by_item != TRAIN
                skip = split.evaluated_after
                codes[new_user & (ranks < skip) | new_item & _among_first(cuts, skip, table, draw)] = NONE
                shown_by_item = ~new_item | _among_first(cuts, split.shown_items, table, draw)
                shown = (~new_user | (ranks < split.shown_users)) & shown_by_item
                codes[(new_user | new_item) & shown] = TRAIN if split.shown_to == "training" else SHOWN
            return codes
        case PredefinedSplitConfig():
            values = _file_names(file) if split.column is None else [table.column(split.column)]
            codes = np.full(len(table), NONE, np.int8)
            named = ((TRAIN, split.train), (VALID, split.valid), (TEST, split.test), (SHOWN, split.shown))
            for code, names in named:
                for each in values:
                    for name in names:
                        codes[equals(each, name)] = code
            if split.valid_share and not split.valid:
                codes[(codes == TRAIN) & (draw < split.valid_share)] = VALID
            return codes


def _file_names(file: pa.Array) -> list[pa.Array]:
    """Return the names that stand for each file: the last part of its path, and its path below the root of the log."""
    paths = decoded(file)
    return [pc.replace_substring_regex(paths, r"^.*/", ""), paths]


def _item_codes(split: ColdSplitConfig, table: pa.Table, seed: int) -> np.ndarray:
    item = uniform_keys(mix(hash_keys(to_keys(table.column(ITEM))), Stream.ITEM), seed)
    return _by_share(item, split.valid_items, split.test_items)


def _ranks(keys: pa.ChunkedArray) -> np.ndarray:
    """Return (n,) how many rows of the same key come before each row."""
    values = keys.to_pandas()
    return values.groupby(values).cumcount().to_numpy()


def row_draw(experiment: Experiment, file: pa.Array, row: np.ndarray) -> np.ndarray:
    """Return (n,) float64 in [0, 1): a draw for each row of the log."""
    return uniform_keys(hash_keys(file) ^ mix(row.astype(np.uint64), Stream.ROW), experiment.data_seed)


def needs_first(experiment: Experiment) -> bool:
    """Return whether the split needs the first interactions of items, whose rows are in many partitions."""
    split = experiment.data.split
    return isinstance(split, ColdSplitConfig) and num_first_of_items(split) > 0


def num_first_of_items(split: ColdSplitConfig) -> int:
    """Return how many first interactions of each held-out item the split needs."""
    held_out = split.valid_items or split.test_items
    return max(split.shown_items, split.evaluated_after if held_out else 0)


def earliest(experiment: Experiment, table: pa.Table, draw: np.ndarray) -> pa.Table:
    """Return the first interactions of each held-out item among some rows: those that are shown or not evaluated.

    Columns are item, time and draw; the draw orders rows of the same instant.
    """
    split = experiment.data.split
    assert isinstance(split, ColdSplitConfig)
    held_out = _item_codes(split, table, experiment.data_seed) != TRAIN
    rows = pa.table({"item": to_keys(table.column(ITEM)), "time": table.column(TIME), "draw": pa.array(draw)})
    return first_of(rows.filter(pa.array(held_out)), num_first_of_items(split))


def first_of(rows: pa.Table, number: int) -> pa.Table:
    """Return the first `number` rows of each item by time, then by draw."""
    rows = rows.sort_by([("time", "ascending"), ("draw", "ascending")])
    return rows.filter(pa.array(_ranks(rows.column("item")) < number))


def _among_first(cuts: Cuts, number: int, table: pa.Table, draw: np.ndarray) -> np.ndarray:
    """Return (n,) bool: true for the first `number` rows of each held-out item."""
    if cuts.first is None:
        return np.zeros(len(table), bool)
    first = first_of(cuts.first, number)
    known = pd.MultiIndex.from_arrays([first["item"].to_pandas(), first["draw"].to_numpy()])
    return pd.MultiIndex.from_arrays([to_keys(table.column(ITEM)).to_pandas(), draw]).isin(known)


def _by_share(draw: np.ndarray, valid: float, test: float) -> np.ndarray:
    return np.where(draw < test, TEST, np.where(draw < test + valid, VALID, TRAIN)).astype(np.int8)


def needs_histogram(experiment: Experiment) -> bool:
    """Return whether cuts in time depend on the distribution of the rows over time."""
    holdout = experiment.data.holdout
    if holdout and holdout.kind == "time":
        return True
    return isinstance(experiment.data.split, TimeSplitConfig) and experiment.data.split.test_from is None


def declared_cuts(experiment: Experiment, pieces: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Return the cuts that the experiment file gives, in the unit of the staged time column; None if it gives none.

    Args:
        experiment: `data.split` decides.
        pieces: what `Stage` returned.

    Raises:
        InputError: the validation rows would begin after the test rows, a cut is a date where the unit of the times is
            not known, or some times are dates and others are numbers.
    """
    unit, split = _time_unit(experiment, pieces), experiment.data.split
    if not isinstance(split, TimeSplitConfig) or split.test_from is None:
        return None
    test = instant(split.test_from, unit, "data.split.test_from")
    valid = test if split.valid_from is None else instant(split.valid_from, unit, "data.split.valid_from")
    if valid > test:
        raise InputError(f"data.split: valid_from ({split.valid_from}) is after test_from ({split.test_from})")
    return valid, test


def _time_unit(experiment: Experiment, pieces: Sequence[Mapping[str, Any]]) -> int | None:
    """Return how many units of the staged times a second has: 1 for dates; None for numbers that may be anything."""
    dates, numbers = (sum(piece[kind] for piece in pieces) for kind in ("dates", "numbers"))
    if dates and numbers:
        raise InputError(
            f"data.time: expected dates or numbers in all rows of `{experiment.data.time}`; found {dates:,} dates and "
            f"{numbers:,} numbers; write all of them in one way"
        )
    if dates:
        return 1
    low, high = min(piece["low"] for piece in pieces), max(piece["high"] for piece in pieces)
    return unit_of(low, high)


def instant(value: float | str, unit: int | None, path: str) -> float:
    """Return a number as it is, and an ISO date in a unit of which a second has so many, see `_time_unit`.

    Raises:
        InputError: a text that is no date, or a date without a known unit; the message begins with `path`.
    """
    if not isinstance(value, str):
        return float(value)
    times, is_date, _ = parse_times(pa.array([value]))
    if not is_date[0]:
        raise InputError(f"{path}: expected a number, or an ISO date or time; found '{value}'")
    if unit is None:
        raise InputError(
            f"{path}: expected a number, as the time column holds numbers that do not count from 1970; found '{value}'"
        )
    return float(times[0]) * unit


def cut_before(counts: np.ndarray, low: float, high: float, end: float, share: float) -> float:
    """Return the instant from which on the last `share` of the rows before `end` lie; see `cuts_from_histogram`."""
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    counts = np.where(edges[:-1] < end, counts, 0)
    before = np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())
    return float(edges[np.searchsorted(before, 1 - share - 1e-12)])


def cuts_from_histogram(counts: np.ndarray, low: float, high: float, shares: Sequence[float]) -> tuple[float, float]:
    """Return the instants from which on the last (valid + test) and (test) shares of the rows lie.

    Args:
        counts: (HISTOGRAM_BINS,) rows in each equal slice of time from `low` to `high`.
        low: first instant of the log.
        high: last instant of the log.
        shares: of validation and of test rows.
    """
    valid, test = shares
    cuts = [cut_before(counts, low, high, math.inf, share) for share in (valid + test, test)]
    # After the cut of a share of 0 nothing is left, not even the last instant.
    test_cut = cuts[1] if test else float(np.nextafter(high, np.inf))
    return (cuts[0] if valid else test_cut), test_cut
