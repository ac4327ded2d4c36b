"""Histories: which interactions of its user each row knows."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mtl_ray.config.features import SequenceFeatureConfig
from mtl_ray.values.keys import flat
from mtl_ray.values.partition import NONE, SHOWN, TIME, TRAIN, USER, Partition


@dataclass(frozen=True)
class Histories:
    """For each row the positions, in `source`, of the interactions of its user that it knows."""

    source: np.ndarray
    """(m,) row numbers of the interactions that may be in a history, by user and time."""
    starts: np.ndarray
    """(n,) first entry of `source` for each row."""
    sizes: np.ndarray
    """(n,) number of entries."""
    gaps: np.ndarray
    """(n,) entry from which on one is skipped, the row itself; beyond the size where the row is not among them."""

    def rows(self, values: np.ndarray, length: int) -> np.ndarray:
        """Return (n, length) `values` (by row of the partition) of each history, oldest first, padded with 0."""
        steps = np.arange(length, dtype=np.int32)
        known = np.append(values[self.source], values.dtype.type(0))
        positions = self.starts.astype(np.int32)[:, None] + steps
        positions += steps >= self.gaps[:, None]
        positions[steps >= self.sizes[:, None]] = len(self.source)
        return known[positions]

    def lists(self, values: pa.Array, rows: np.ndarray) -> pa.ListArray:
        """Return the histories of the given rows as lists of raw values."""
        sizes = self.sizes[rows]
        ends = np.cumsum(sizes)
        within = np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes)
        within = within + (within >= np.repeat(self.gaps[rows], sizes))
        entries = self.source[np.repeat(self.starts[rows], sizes) + within]
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, values.take(pa.array(entries)))


def histories(partition: Partition, feature: SequenceFeatureConfig, split: str) -> Histories:
    """Find the last interactions of each row's user, `feature.max_length` at most, that the row knows.

    Args:
        partition: rows in time order.
        feature: says whether a row knows the past alone or all.
        split: kind of the split; under `time` any row is in histories, else only those trained on or shown.
    """
    user = flat(partition.table.column(USER)).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    time = partition.table.column(TIME).to_numpy()
    order = np.lexsort((np.arange(len(user)), time, user))
    user, time, code = user[order], time[order], partition.split[order]
    usable = (code != NONE) if split == "time" else (code == TRAIN) | (code == SHOWN)
    before = np.concatenate([[0], np.cumsum(usable)])
    positions = np.arange(len(user))
    first = np.concatenate([[True], user[1:] != user[:-1]]) if len(user) else np.zeros(0, bool)
    start = before[np.maximum.accumulate(np.where(first, positions, 0))]
    if feature.known == "all":
        last = np.append(np.flatnonzero(first)[1:], len(user))
        end = before[last][np.cumsum(first) - 1]
        itself = np.where(usable, before[:-1], -1)
    else:
        later = first | np.concatenate([[True], time[1:] != time[:-1]]) if len(user) else first
        end = before[np.maximum.accumulate(np.where(later, positions, 0))]
        itself = np.full(len(user), -1)
    among = (itself >= 0) & (itself >= end - feature.max_length)
    start = np.maximum(start, end - feature.max_length - among)
    sizes = end - start - among
    gaps = np.where(among, itself - start, sizes)
    inverse = np.empty_like(order)
    inverse[order] = positions
    return Histories(order[usable], start[inverse], sizes[inverse], gaps[inverse])
