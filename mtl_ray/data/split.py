"""Which rows train, which validate and which test: a function of the seed and of the row alone, on any machine."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.data.keys import hash_keys, mix, to_keys, uniform
from mtl_ray.errors import InputError
from mtl_ray.experiment import Experiment
from mtl_ray.experiment.data import ColdSplit, PredefinedSplit, RandomSplit, TimeSplit

TRAIN, VALID, TEST, NONE = 0, 1, 2, 3
"""Codes of the splits; NONE is a row that a predefined split does not name."""

USER, ITEM, TIME = "_user", "_item", "_time"
"""Columns of a staged row beside its raw ones: the keys as text, the time as a number."""

ROW_STREAM, USER_STREAM, ITEM_STREAM = 1, 2, 3

HISTOGRAM_BINS = 1 << 16


def assign(
    experiment: Experiment, table: pa.Table, file: pa.Array, row: np.ndarray, cuts: tuple[float, float] | None
) -> np.ndarray:
    """(n,) int8 split code of each row.

    Args:
        experiment: its `data.split` and `data_seed` decide.
        table: staged rows: keys, time and the raw columns.
        file: name of the file of each row.
        row: (n,) row number within the file.
        cuts: first instants of the validation and of the test rows, for the time split.
    """
    split, seed = experiment.data.split, experiment.data_seed
    draw = uniform(hash_keys(file) ^ mix(row.astype(np.uint64), ROW_STREAM), seed)
    match split:
        case RandomSplit():
            return _by_share(draw, split.valid, split.test)
        case TimeSplit():
            assert cuts is not None
            time = table.column(TIME).to_numpy()
            return np.where(time >= cuts[1], TEST, np.where(time >= cuts[0], VALID, TRAIN)).astype(np.int8)
        case ColdSplit():
            user = uniform(mix(hash_keys(to_keys(table.column(USER))), USER_STREAM), seed)
            item = uniform(mix(hash_keys(to_keys(table.column(ITEM))), ITEM_STREAM), seed)
            by_user = _by_share(user, split.valid_users, split.test_users)
            return np.maximum(by_user, _by_share(item, split.valid_items, split.test_items))
        case PredefinedSplit():
            values = file if split.column is None else to_keys(table.column(split.column))
            codes = np.full(len(table), NONE, np.int8)
            for code, names in ((TRAIN, split.train), (VALID, split.valid), (TEST, split.test)):
                codes[np.asarray(pc.is_in(values, value_set=pa.array(names, pa.string())))] = code
            if split.valid_share and not split.valid:
                codes[(codes == TRAIN) & (draw < split.valid_share)] = VALID
            return codes


def _by_share(draw: np.ndarray, valid: float, test: float) -> np.ndarray:
    return np.where(draw < test, TEST, np.where(draw < test + valid, VALID, TRAIN)).astype(np.int8)


def needs_histogram(experiment: Experiment) -> bool:
    """Whether the cuts of the time split depend on how the rows spread over time."""
    return isinstance(experiment.data.split, TimeSplit) and experiment.data.split.test_from is None


def declared_cuts(experiment: Experiment, is_timestamp: bool) -> tuple[float, float] | None:
    """The cuts that the experiment file gives, in the unit of the staged `time` column."""
    split = experiment.data.split
    if not isinstance(split, TimeSplit) or split.test_from is None:
        return None
    test = instant(split.test_from, is_timestamp, "data.split.test_from")
    valid = test if split.valid_from is None else instant(split.valid_from, is_timestamp, "data.split.valid_from")
    if valid > test:
        raise InputError(f"data.split: valid_from ({split.valid_from}) is after test_from ({split.test_from})")
    return valid, test


def instant(value: float | str, is_timestamp: bool, path: str) -> float:
    """A number as it is; an ISO date in the unit of a timestamp column (nanoseconds since 1970)."""
    if not isinstance(value, str):
        return float(value)
    if not is_timestamp:
        raise InputError(f"{path}: expected a number, as the time column holds numbers; found '{value}'")
    try:
        return float(pd.Timestamp(value).value)
    except ValueError:
        raise InputError(f"{path}: expected an ISO date or time; found '{value}'") from None


def cuts_from_histogram(counts: np.ndarray, low: float, high: float, shares: Sequence[float]) -> tuple[float, float]:
    """Instants that leave the given (valid, test) shares of the rows after them.

    Args:
        counts: (HISTOGRAM_BINS,) rows in each equal slice of time from `low` to `high`.
    """
    valid, test = shares
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    before = np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())
    cuts = [float(edges[np.searchsorted(before, 1 - s - 1e-12)]) for s in (valid + test, test)]
    # A share of 0 must leave nothing after its cut, not even the last instant.
    test_cut = cuts[1] if test else float(np.nextafter(high, np.inf))
    return (cuts[0] if valid else test_cut), test_cut
