"""Histories and audiences: which interactions of its user, or of its item, each row knows."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mtl_ray.config.features import SequenceFeatureConfig
from mtl_ray.values.keys import flat
from mtl_ray.values.partition import ITEM, NONE, SHOWN, TIME, TRAIN, USER, Partition


@dataclass(frozen=True)
class Histories:
    """For each row the positions, in `source`, of the interactions of its entity that it knows."""

    source: np.ndarray
    """(m,) row numbers of the interactions that may be known to a row, by entity and time."""
    starts: np.ndarray
    """(n,) first entry of `source` for each row."""
    sizes: np.ndarray
    """(n,) number of entries."""
    gaps: np.ndarray
    """(n,) entry from which on one is skipped, the row itself; beyond the size where the row is not among them."""

    def at(self, rows: np.ndarray) -> "Histories":
        """Return the histories of the given rows."""
        return replace(self, starts=self.starts[rows], sizes=self.sizes[rows], gaps=self.gaps[rows])

    def rows(self, values: np.ndarray, length: int) -> np.ndarray:
        """Return (n, length) `values` (by row of the partition) of each history, oldest first, padded with 0."""
        steps = np.arange(length, dtype=np.int32)
        known = np.append(values[self.source], values.dtype.type(0))
        positions = self.starts.astype(np.int32)[:, None] + steps
        positions += steps >= self.gaps[:, None]
        positions[steps >= self.sizes[:, None]] = len(self.source)
        return known[positions]

    def lists(self, values: pa.Array) -> pa.ListArray:
        """Return the histories as lists of raw `values` (by row of the partition)."""
        sizes = self.sizes
        ends = np.cumsum(sizes)
        within = np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes)
        within = within + (within >= np.repeat(self.gaps, sizes))
        entries = self.source[np.repeat(self.starts, sizes) + within]
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, values.take(pa.array(entries)))


def histories(partition: Partition, feature: SequenceFeatureConfig, split: str) -> Histories:
    """Find the last interactions of each row's entity, `feature.max_length` at most, that the row knows.

    Args:
        partition: rows in time order, all those of each entity.
        feature: says whose interactions they are, and whether a row knows the past alone or all.
        split: kind of the split; under `time` any row is known to others, else only those trained on or shown.
    """
    keys = flat(partition.table.column(USER if feature.entity == "user" else ITEM))
    entity = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    time = partition.table.column(TIME).to_numpy()
    order = np.lexsort((np.arange(len(entity)), time, entity))
    entity, time, code = entity[order], time[order], partition.split[order]
    usable = (code != NONE) if split == "time" else (code == TRAIN) | (code == SHOWN)
    before = np.concatenate([[0], np.cumsum(usable)])
    positions = np.arange(len(entity))
    first = np.concatenate([[True], entity[1:] != entity[:-1]]) if len(entity) else np.zeros(0, bool)
    start = before[np.maximum.accumulate(np.where(first, positions, 0))]
    if feature.known == "all":
        last = np.append(np.flatnonzero(first)[1:], len(entity))
        end = before[last][np.cumsum(first) - 1]
        itself = np.where(usable, before[:-1], -1)
    else:
        later = first | np.concatenate([[True], time[1:] != time[:-1]]) if len(entity) else first
        end = before[np.maximum.accumulate(np.where(later, positions, 0))]
        itself = np.full(len(entity), -1)
    among = (itself >= 0) & (itself >= end - feature.max_length)
    start = np.maximum(start, end - feature.max_length - among)
    sizes = end - start - among
    gaps = np.where(among, itself - start, sizes)
    inverse = np.empty_like(order)
    inverse[order] = positions
    return Histories(order[usable], start[inverse], sizes[inverse], gaps[inverse])
