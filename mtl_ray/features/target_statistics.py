"""Number and sum of the training labels of each key, as a row may know them.

A training row must not know its own label. With `data.time` it sees strictly earlier training rows alone: exactly where
the key is the user's, as a partition holds all rows of its users, and otherwise by slices of time, of which it sees
those before its own. Without a time a row sees all folds but its own; what has the same user and item is in one fold. A
mean over all rows but the row itself would tell its label: the mean of the others is low where the label is high.
Any other row sees all training rows.

Fitting adds up cells (key, slice, count, total), so memory grows with keys times slices, not with the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.counter_rng import Stream, mix
from mtl_ray.values.keys import flat, hash_keys
from mtl_ray.values.partition import ITEM, TIME, USER, Partition
from mtl_ray.values.vocabulary import Vocabulary

SLICES = 64
"""Slices of the time of the training rows, of about as many rows each."""

FOLDS = 8
CELL = ["key", "slice"]


@dataclass(frozen=True)
class TargetStatistics:
    """Labels of training rows by key and slice of time, or by key and fold."""

    cells: pa.Table
    """Columns `key`, `slice`, `count` and `total`."""

    is_constant = False

    @classmethod
    def of(cls, keys: pa.Array, slices: np.ndarray, labels: np.ndarray) -> "TargetStatistics":
        """Count rows; one without a label counts 0, one without a key is left out."""
        known = ~np.isnan(labels)
        columns = {"key": keys, "slice": slices, "count": known.astype(np.int64), "total": np.where(known, labels, 0.0)}
        return cls(_summed(pa.table(columns).filter(keys.is_valid())))

    def __add__(self, other: "TargetStatistics") -> "TargetStatistics":
        return TargetStatistics(_summed(pa.concat_tables([self.cells, other.cells])))

    def by_key(self) -> Vocabulary:
        """Return the number and the sum of the labels of each key."""
        keys = _summed(self.cells, ["key"]).sort_by("key")
        return Vocabulary(*(flat(keys.column(name)) for name in ("key", "count", "total")))

    def others(self, keys: pa.Array, slices: np.ndarray, *, earlier: bool) -> np.ndarray:
        """Return (n, 2) count and total of the key's cells in earlier slices, or in all slices but the row's own."""
        own = self.cells.filter(pc.is_in(self.cells.column("key"), value_set=keys.unique()))
        frame = own.to_pandas().set_index(CELL).sort_index().astype(float)
        if earlier:
            seen = frame.groupby(level="key").cumsum().groupby(level="key").shift(fill_value=0.0)
        else:
            seen = frame.groupby(level="key").transform("sum") - frame
        rows = pd.MultiIndex.from_arrays([keys.to_pandas(), slices], names=CELL)
        return seen.reindex(rows, fill_value=0.0).to_numpy()


def _summed(table: pa.Table, by: Sequence[str] = CELL) -> pa.Table:
    """Add up cells with the same values in the columns `by`."""
    added = table.group_by(list(by), use_threads=False).aggregate([("count", "sum"), ("total", "sum")])
    return added.rename_columns([*by, "count", "total"])


def slices_of(rows: Partition, seed: int, *, timed: bool) -> np.ndarray:
    """Return the (n,) slice of time of each row or, in a log without time, its fold."""
    if timed:
        return np.searchsorted(rows.borders, rows.table.column(TIME).to_numpy(), side="right")
    user, item = (hash_keys(flat(rows.table.column(key))) for key in (USER, ITEM))
    return (mix(mix(user, Stream.FOLD) ^ item, seed) % np.uint64(FOLDS)).astype(np.int64)


def slice_borders(counts: np.ndarray, low: float, high: float, until: float | None) -> tuple[float, ...]:
    """Return the inner borders of slices of about as many rows each.

    Args:
        counts: (bins,) rows in each equal part of the time from `low` to `high`.
        low: the first instant.
        high: the last one.
        until: the end of the training rows, under the time split.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    below = np.cumsum(np.where(edges[:-1] < (np.inf if until is None else until), counts, 0))
    wanted = np.arange(1, SLICES) / SLICES * below[-1]
    return tuple(np.unique(edges[np.searchsorted(below, wanted) + 1]).tolist())
