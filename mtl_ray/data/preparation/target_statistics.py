"""Features of the kind `statistic`: number and sum of the training labels of a key.

A training row must not know its own label. With `data.time` it sees strictly earlier training rows alone: exactly where
the key is the user's, as a bucket holds all rows of its users, and otherwise by slices of time, of which it sees those
before its own. Without a time a row sees all folds but its own; what has the same user and item is in one fold. A mean
over all rows but the row itself would tell its label: the mean of the others is low where the label is high.
Any other row sees all training rows.

The survey adds up cells (key, slice, count, total), so memory grows with keys times slices, not with the log.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.features import StatisticFeatureConfig
from mtl_ray.counter_rng import Stream, mix
from mtl_ray.data.encoding import Encoder, column, to_numbers
from mtl_ray.data.preparation.partition import Partition
from mtl_ray.data.preparation.split import HISTOGRAM_BINS, ITEM, TIME, TRAIN, USER
from mtl_ray.schema import FittedFeature
from mtl_ray.values.keys import flat, hash_keys, to_keys
from mtl_ray.values.vocabulary import Vocabulary

SLICES = 64
"""Slices of the time of the training rows, of about as many rows each."""

FOLDS = 8

NO_BORDERS = np.zeros(0)
CELL = ["key", "slice"]


@dataclass(frozen=True)
class TargetStatistics:
    """Cells of every statistic, and the slices that they are by."""

    cells: Mapping[str, pa.Table]
    borders: np.ndarray
    """Inner borders of the slices, ascending."""

    def encoded(self, encoder: Encoder, bucket: Partition) -> dict[str, np.ndarray]:
        """By feature, (n, 2) inputs of all rows of a bucket."""
        experiment = encoder.experiment
        train, by_slice = bucket.split == TRAIN, _slices(experiment, bucket, self.borders)
        result = {}
        for name, feature in statistics(experiment):
            keys = _keys(experiment, name, bucket)
            seen = encoder.vocabularies[name].tally(keys)
            keys, slices, cells = keys.filter(pa.array(train)), by_slice[train], self.cells[name]
            if experiment.data.time and _is_users(experiment, name):
                slices = np.unique(bucket.table.column(TIME).to_numpy()[train], return_inverse=True)[1]
                cells = _cells(keys, slices, _labels(feature, bucket)[train])
            seen[train] = _others(cells, keys, slices, earlier=experiment.data.time is not None)
            result[name] = encoder.statistic(name, seen)
        return result


def statistics(experiment: Experiment) -> Iterator[tuple[str, StatisticFeatureConfig]]:
    """The features of this kind."""
    for name, feature in experiment.features.items():
        if isinstance(feature, StatisticFeatureConfig):
            yield name, feature


def count_targets(experiment: Experiment, bucket: Partition, borders: np.ndarray) -> dict[str, pa.Table]:
    """By feature, the cells of the training rows of a bucket."""
    train = bucket.split == TRAIN
    slices = _slices(experiment, bucket, borders)
    result = {}
    for name, feature in statistics(experiment):
        whole = experiment.data.time and _is_users(experiment, name)  # each bucket has the earlier rows itself
        by = np.zeros_like(slices) if whole else slices
        keys = _keys(experiment, name, bucket).filter(pa.array(train))
        result[name] = _cells(keys, by[train], _labels(feature, bucket)[train])
    return result


def add_up(first: pa.Table | None, second: pa.Table, by: Sequence[str] = CELL) -> pa.Table:
    """Cells of both, those of one key and slice together."""
    table = second if first is None else pa.concat_tables([first, second])
    added = table.group_by(list(by), use_threads=False).aggregate([("count", "sum"), ("total", "sum")])
    return added.rename_columns([*by, "count", "total"])


def whole(cells: pa.Table) -> Vocabulary:
    """Number and sum of the labels of each key."""
    keys = add_up(None, cells, ["key"]).sort_by("key")
    return Vocabulary(*(flat(keys.column(name)) for name in ("key", "count", "total")))


def fitted_statistic(feature: StatisticFeatureConfig, cells: pa.Table) -> FittedFeature:
    """The mean label, and the spread over the rows of the shrunken mean of their key."""
    keys = whole(cells)
    assert keys.totals is not None
    count, total = keys.counts.to_numpy(), keys.totals.to_numpy()
    if not count.sum():
        return FittedFeature(mean=0.0, std=1.0)
    mean = float(total.sum() / count.sum())
    means = (total + feature.prior * mean) / (count + feature.prior)
    spread = float(np.sqrt((count * (means - mean) ** 2).sum() / count.sum()))
    return FittedFeature(mean=mean, std=spread or 1.0)


def slice_borders(counts: np.ndarray, low: float, high: float, until: float | None) -> np.ndarray:
    """Inner borders of slices of about as many rows each.

    Args:
        counts: (HISTOGRAM_BINS,) rows in each equal part of the time from `low` to `high`.
        low: the first instant.
        high: the last one.
        until: the end of the training rows, under the time split.
    """
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    below = np.cumsum(np.where(edges[:-1] < (np.inf if until is None else until), counts, 0))
    wanted = np.arange(1, SLICES) / SLICES * below[-1]
    return np.unique(edges[np.searchsorted(below, wanted) + 1])


def _is_users(experiment: Experiment, name: str) -> bool:
    return experiment.column_of(name) == experiment.column_of(experiment.user)


def _keys(experiment: Experiment, name: str, bucket: Partition) -> pa.Array:
    return to_keys(column(bucket.table, experiment, name))


def _labels(feature: StatisticFeatureConfig, bucket: Partition) -> np.ndarray:
    return to_numbers(flat(bucket.table.column(feature.of)))


def _slices(experiment: Experiment, bucket: Partition, borders: np.ndarray) -> np.ndarray:
    """(n,) slice of time, or fold, of each row."""
    if experiment.data.time:
        return np.searchsorted(borders, bucket.table.column(TIME).to_numpy(), side="right")
    user, item = (hash_keys(flat(bucket.table.column(key))) for key in (USER, ITEM))
    return (mix(mix(user, Stream.FOLD) ^ item, experiment.data_seed) % np.uint64(FOLDS)).astype(np.int64)


def _cells(keys: pa.Array, slices: np.ndarray, labels: np.ndarray) -> pa.Table:
    """Rows (key, slice, count, total); a row without a label counts 0, one without a key is left out."""
    known = ~np.isnan(labels)
    columns = {"key": keys, "slice": slices, "count": known.astype(np.int64), "total": np.where(known, labels, 0.0)}
    return add_up(None, pa.table(columns).filter(keys.is_valid()))


def _others(cells: pa.Table, keys: pa.Array, slices: np.ndarray, *, earlier: bool) -> np.ndarray:
    """(n, 2) count and total of the key's cells in earlier slices, or in all slices but the row's own."""
    own = cells.filter(pc.is_in(cells.column("key"), value_set=keys.unique()))
    frame = own.to_pandas().set_index(CELL).sort_index().astype(float)
    if earlier:
        seen = frame.groupby(level="key").cumsum().groupby(level="key").shift(fill_value=0.0)
    else:
        seen = frame.groupby(level="key").transform("sum") - frame
    rows = pd.MultiIndex.from_arrays([keys.to_pandas(), slices], names=CELL)
    return seen.reindex(rows, fill_value=0.0).to_numpy()
