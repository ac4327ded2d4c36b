"""Second pass of `prepare`: what the training rows say, bucket by bucket, added up to the fitted schema."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.features import (
    CategoricalFeatureConfig,
    IdFeatureConfig,
    ImageFeatureConfig,
    MultiCategoricalFeatureConfig,
    NumericFeatureConfig,
    SequenceFeatureConfig,
    StatisticFeatureConfig,
    TextFeatureConfig,
    VectorFeatureConfig,
)
from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    MulticlassTaskConfig,
    MultilabelTaskConfig,
    OrdinalTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    TaskConfig,
)
from mtl_ray.data.encoding import column, population, to_flags, to_lists, to_numbers
from mtl_ray.data.preparation.partition import Partition
from mtl_ray.data.preparation.split import SHOWN, TRAIN
from mtl_ray.data.preparation.target_statistics import NO_BORDERS, add_up, count_targets, fitted_statistic, whole
from mtl_ray.schema import FIRST, SPLITS, FittedFeature, FittedTask
from mtl_ray.values.keys import flat, to_keys
from mtl_ray.values.vocabulary import Vocabulary

GRID = 1025
"""Quantiles by which a bucket describes the distribution of a number."""


@dataclass
class Moments:
    """Count, mean and sum of squared deviations; mergeable (Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Moments":
        """Of (n,) numbers; NaN is left out."""
        numbers = numbers[~np.isnan(numbers)]
        if not len(numbers):
            return cls()
        mean = float(numbers.mean())
        return cls(len(numbers), mean, float(((numbers - mean) ** 2).sum()))

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        if not count:
            return Moments()
        shift = other.mean - self.mean
        mean = self.mean + shift * other.count / count
        return Moments(count, mean, self.squares + other.squares + shift**2 * self.count * other.count / count)

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return (self.squares / self.count) ** 0.5 if self.count else 0.0


@dataclass
class FitStatistics:
    """Statistics of one bucket, or the sum of several."""

    num_rows: list[np.ndarray] = field(default_factory=list)
    """For each bucket the rows of train, valid, test and of no split."""
    counts: dict[str, pa.Table] = field(default_factory=dict)
    """Training rows by value (columns key, count) of a feature's or a task's vocabulary."""
    moments: dict[str, Moments] = field(default_factory=dict)
    """Of numeric features and of labels, on training rows."""
    tallies: dict[str, pa.Table] = field(default_factory=dict)
    """Cells of statistics, see `data.tally`."""
    grids: dict[str, list[tuple[int, np.ndarray]]] = field(default_factory=dict)
    """Of bucketised features: number of values and their quantiles, by bucket."""
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Labelled rows by (task, split)."""
    issues: Counter[str] = field(default_factory=Counter)
    num_duplicates: int = 0
    duplicates: list[str] = field(default_factory=list)
    """Where the first duplicates are."""

    def __add__(self, other: "FitStatistics") -> "FitStatistics":
        return FitStatistics(
            self.num_rows + other.num_rows,
            {n: _add_counts(self.counts.get(n), other.counts[n]) for n in other.counts},
            {n: self.moments.get(n, Moments()) + other.moments[n] for n in other.moments},
            {n: add_up(self.tallies.get(n), other.tallies[n]) for n in other.tallies},
            {n: self.grids.get(n, []) + other.grids[n] for n in other.grids},
            self.labels + other.labels,
            self.issues + other.issues,
            self.num_duplicates + other.num_duplicates,
            (self.duplicates + other.duplicates)[:5],
        )


def fit_partition(experiment: Experiment, bucket: Partition, borders: np.ndarray = NO_BORDERS) -> FitStatistics:
    """Statistics of one bucket; features and labels from its training rows alone. `borders` are those of `Tallies`."""
    result = FitStatistics(num_rows=[np.bincount(bucket.split, minlength=SHOWN + 1)], issues=Counter(bucket.unknown))
    train = bucket.table.filter(pa.array(bucket.split == TRAIN))
    for name, feature in experiment.features.items():
        match feature:
            case IdFeatureConfig() | CategoricalFeatureConfig():
                result.counts[name] = _count_values(column(train, experiment, name))
            case MultiCategoricalFeatureConfig() | TextFeatureConfig():
                result.counts[name] = _count_lists(column(train, experiment, name), feature)
            case NumericFeatureConfig():
                numbers = to_numbers(column(train, experiment, name))
                result.moments[name] = Moments.of(numbers)
                if feature.buckets:
                    known = numbers[~np.isnan(numbers)]
                    grid = np.quantile(known, np.linspace(0, 1, GRID)) if len(known) else np.zeros(0)
                    result.grids[name] = [(len(known), grid)]
            case SequenceFeatureConfig():
                if feature.values:
                    result.moments[name] = Moments.of(to_numbers(flat(train.column(feature.values))))
    for name, task in experiment.tasks.items():
        labelled = _survey_label(result, name, task, bucket.table, bucket.split == TRAIN)
        for code, split in enumerate(SPLITS):
            result.labels[name, split] += int((labelled & (bucket.split == code)).sum())
    result.tallies = count_targets(experiment, bucket, borders)
    result.num_duplicates = len(bucket.duplicates)
    return result


def _survey_label(result: FitStatistics, name: str, task: TaskConfig, table: pa.Table, train: np.ndarray) -> np.ndarray:
    """Add a label's statistics on the training rows; returns (n,) bool, the rows with a label."""
    values, inside, key = flat(table.column(task.column or name)), population(task, table), f"{name}.label"
    match task:
        case RealTaskConfig() | BinaryTaskConfig() | RankingTaskConfig():
            numbers = to_numbers(values) if isinstance(task, RealTaskConfig) else to_flags(values, task)
            labelled = inside & ~np.isnan(numbers)
            result.moments[key] = Moments.of(numbers[labelled & train])
            if isinstance(task, OrdinalTaskConfig):
                levels = pa.array(numbers[labelled & train].astype(np.float32))
                result.counts[key] = _count(levels)
        case MulticlassTaskConfig():
            keys = to_keys(values)
            labelled = inside & np.asarray(keys.is_valid())
            result.counts[key] = _count(keys.filter(pa.array(labelled & train)))
        case MultilabelTaskConfig():
            labelled = inside & np.asarray(to_lists(values, task).is_valid())
            result.counts[key] = _count_lists(values.filter(pa.array(labelled & train)), task)
    return labelled


def _count(keys: pa.Array) -> pa.Table:
    counted = keys.drop_null().value_counts()
    return pa.table({"key": counted.field("values").cast(pa.string()), "count": counted.field("counts")})


def _count_values(values: pa.Array) -> pa.Table:
    distinct = values.dictionary_encode()
    return _count_distinct(to_keys(distinct.dictionary), _occurrences(distinct))


def _count_lists(values: pa.Array, spec: Any) -> pa.Table:
    if not pa.types.is_dictionary(values.type):
        return _count(to_lists(values, spec).flatten())
    lists = to_lists(values.dictionary, spec)
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    return _count_distinct(lists.flatten(), _occurrences(values)[parents])


def _occurrences(values: pa.DictionaryArray) -> np.ndarray:
    """How many rows have each value of the dictionary."""
    return np.bincount(values.indices.drop_null().to_numpy(), minlength=len(values.dictionary))


def _count_distinct(keys: pa.Array, counts: np.ndarray) -> pa.Table:
    """Of keys that stand for so many rows each."""
    table = pa.table({"key": keys.cast(pa.string()), "count": counts})
    return _sum_counts(table.filter(pa.array((counts > 0) & np.asarray(keys.is_valid()))))


def _add_counts(first: pa.Table | None, second: pa.Table) -> pa.Table:
    return second if first is None else _sum_counts(pa.concat_tables([first, second]))


def _sum_counts(table: pa.Table) -> pa.Table:
    return table.group_by("key").aggregate([("count", "sum")]).rename_columns(["key", "count"])


def vocabularies(experiment: Experiment, total: FitStatistics) -> dict[str, Vocabulary]:
    """Values that occur at least `min_count` times in training, the most frequent first; keys of statistics."""
    result = {}
    for name, feature in experiment.features.items():
        if name in total.counts:
            values, counts = _ordered(total.counts[name], getattr(feature, "min_count", 1))
            result[name] = Vocabulary(values, counts)
        elif name in total.tallies:
            result[name] = whole(total.tallies[name])
    return result


def supports(experiment: Experiment, total: FitStatistics) -> dict[str, Vocabulary]:
    """Training rows of every user and item seen, those below the frequency floor included."""
    return {n: Vocabulary(*_ordered(total.counts[n], 1)) for n in (experiment.user, experiment.item)}


def _ordered(counts: pa.Table, min_count: int) -> tuple[pa.Array, pa.Array]:
    counts = counts.filter(pc.greater_equal(counts.column("count"), min_count))
    counts = counts.sort_by([("count", "descending"), ("key", "ascending")])
    return flat(counts.column("key")), flat(counts.column("count"))


def fitted_features(experiment: Experiment, total: FitStatistics) -> dict[str, FittedFeature]:
    """The numbers of each input that come from the training rows."""
    words = vocabularies(experiment, total)
    fitted = {}
    for name, feature in experiment.features.items():
        moments = total.moments.get(name, Moments())
        mean, std = (moments.mean, moments.std or 1.0) if moments.count else (None, None)
        if isinstance(feature, NumericFeatureConfig):
            boundaries = _quantiles(total.grids[name], feature.buckets) if feature.buckets else None
            rows = None if boundaries is None else FIRST + len(boundaries) + 1
            fitted[name] = FittedFeature(num_embeddings=rows, mean=mean, std=std, boundaries=boundaries)
        elif isinstance(feature, StatisticFeatureConfig):
            fitted[name] = fitted_statistic(feature, total.tallies[name])
        elif isinstance(feature, VectorFeatureConfig | ImageFeatureConfig):
            fitted[name] = FittedFeature()
        else:
            shared = feature.of if isinstance(feature, SequenceFeatureConfig) else name
            fitted[name] = FittedFeature(num_embeddings=FIRST + len(words[shared]), mean=mean, std=std)
    return fitted


def fitted_tasks(experiment: Experiment, total: FitStatistics) -> dict[str, FittedTask]:
    """The numbers of each label that come from the training rows."""
    fitted = {}
    for name, task in experiment.tasks.items():
        key = f"{name}.label"
        moments = total.moments.get(key, Moments())
        order = float if isinstance(task, OrdinalTaskConfig) else str
        classes = tuple(sorted(total.counts[key].column("key").to_pylist(), key=order)) if key in total.counts else ()
        num_labels = {split: total.labels[name, split] for split in SPLITS}
        fitted[name] = FittedTask(classes=classes, mean=moments.mean, std=moments.std or 1.0, num_labels=num_labels)
    return fitted


def _quantiles(grids: list[tuple[int, np.ndarray]], buckets: int) -> tuple[float, ...]:
    """Inner quantile borders of the whole, from the quantiles of its buckets weighted by their sizes."""
    values = np.concatenate([grid for _, grid in grids])
    weights = np.concatenate([np.full(len(grid), size / GRID) for size, grid in grids])
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    if not len(below):
        return ()
    wanted = np.arange(1, buckets) / buckets * below[-1]
    return tuple(np.unique(values[order][np.minimum(np.searchsorted(below, wanted), len(values) - 1)]).tolist())
