"""Second pass of `prepare`: what the training rows say, partition by partition, added up to the fitted schema."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    MulticlassTaskConfig,
    MultilabelTaskConfig,
    OrdinalTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    TaskConfig,
)
from mtl_ray.data.encoding import as_labels, population, to_flags
from mtl_ray.data.preparation.declared_values import Occurrences
from mtl_ray.errors import InputError
from mtl_ray.features.base import feature_kinds
from mtl_ray.schema import SPLITS, FittedFeature, FittedTask
from mtl_ray.values.columns import raw_values
from mtl_ray.values.counts import ValueCounts
from mtl_ray.values.keys import to_keys
from mtl_ray.values.lists import to_lists
from mtl_ray.values.moments import Moments
from mtl_ray.values.numbers import to_numbers
from mtl_ray.values.partition import SHOWN, TRAIN, Partition
from mtl_ray.values.quantiles import Distribution
from mtl_ray.values.vocabulary import Vocabulary

LEVELS = 256
"""Different labels of a task that the schema holds; of more, as many quantiles."""


@dataclass
class FitStatistics:
    """Statistics of one partition, or the sum of several."""

    num_rows: list[np.ndarray] = field(default_factory=list)
    """For each partition the rows of train, valid, test and of no split."""
    features: dict[str, Any] = field(default_factory=dict)
    """Statistics by feature, see `FeatureKind.fit`."""
    counts: dict[str, ValueCounts] = field(default_factory=dict)
    """Labels of training rows, by task of several classes."""
    moments: dict[str, Moments] = field(default_factory=dict)
    """Labels of training rows, by task with a numeric label."""
    distributions: dict[str, Distribution] = field(default_factory=dict)
    """As `moments`, for labels other than flags."""
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Labelled rows by (task, split)."""
    declared: Occurrences = field(default_factory=Occurrences)
    """Which values of the settings occur."""
    issues: Counter[str] = field(default_factory=Counter)
    num_duplicates: int = 0
    duplicates: list[str] = field(default_factory=list)
    """Where the first duplicates are."""

    def __add__(self, other: "FitStatistics") -> "FitStatistics":
        return FitStatistics(
            self.num_rows + other.num_rows,
            _added(self.features, other.features),
            _added(self.counts, other.counts),
            _added(self.moments, other.moments),
            _added(self.distributions, other.distributions),
            self.labels + other.labels,
            self.declared + other.declared,
            self.issues + other.issues,
            self.num_duplicates + other.num_duplicates,
            (self.duplicates + other.duplicates)[:5],
        )

    @property
    def constant(self) -> list[str]:
        """Features and labels that have the same value in all training rows."""
        return [
            name for part in (self.features, self.counts, self.moments) for name, s in part.items() if s.is_constant
        ]


def _added(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Add up entries of the same name; what only one side has stays."""
    return {**first, **{name: first[name] + value if name in first else value for name, value in second.items()}}


def fit_partition(experiment: Experiment, rows: Partition) -> FitStatistics:
    """Return the statistics of one partition, of features and labels from its training rows alone."""
    result = FitStatistics(num_rows=[np.bincount(rows.split, minlength=SHOWN + 1)], issues=Counter(rows.unknown))
    train = rows.table.filter(pa.array(rows.split == TRAIN))
    for name, kind in feature_kinds(experiment).items():
        statistics = kind.fit(rows, train)
        if statistics is not None:
            result.features[name] = statistics
    for name, task in experiment.tasks.items():
        labelled = _fit_label(result, name, task, rows, experiment.data.null_words)
        for code, split in enumerate(SPLITS):
            result.labels[name, split] += int((labelled & (rows.split == code)).sum())
    result.declared = Occurrences.of(experiment, rows.table)
    result.num_duplicates = len(rows.duplicates)
    return result


def _fit_label(
    result: FitStatistics, name: str, task: TaskConfig, rows: Partition, null_words: tuple[str, ...]
) -> np.ndarray:
    """Add a label's statistics on the training rows; returns (n,) bool, the rows with a label."""
    table, train = rows.table, rows.split == TRAIN
    values = as_labels(task, raw_values(table, task.column or name), null_words)
    inside, key = population(task, table), f"{name}.label"
    match task:
        case RealTaskConfig() | BinaryTaskConfig() | RankingTaskConfig():
            is_real = isinstance(task, RealTaskConfig)
            numbers = to_numbers(values, null_words) if is_real else to_flags(values, task, null_words)
            labelled = inside & ~np.isnan(numbers)
            result.moments[key] = Moments.of(numbers[labelled & train])
            if is_real:
                result.distributions[key] = Distribution.of(numbers[labelled & train].astype(np.float32))  # as stored
            if isinstance(task, OrdinalTaskConfig):
                levels = pa.array(numbers[labelled & train].astype(np.float32))
                result.counts[key] = ValueCounts.of_keys(levels)
        case MulticlassTaskConfig():
            keys = to_keys(values)
            labelled = inside & np.asarray(keys.is_valid())
            result.counts[key] = ValueCounts.of_keys(keys.filter(pa.array(labelled & train)))
        case MultilabelTaskConfig():
            labelled = inside & np.asarray(to_lists(values, task.separator).is_valid())
            result.counts[key] = ValueCounts.of_lists(values.filter(pa.array(labelled & train)), task.separator)
    return labelled


def refuse_useless_tasks(experiment: Experiment, total: FitStatistics) -> None:
    """Raise InputError for a task from whose training labels nothing can be learned: none, or of one class."""
    for name, task in experiment.tasks.items():
        key, where = f"{name}.label", f"tasks.{name}"
        column, population = task.column or name, f" where {task.where}" if task.where else ""
        if not total.labels[name, "train"]:
            raise InputError(
                f"{where}: expected labels in training rows; found none in the column `{column}`{population}; give "
                "another column, or remove the task"
            )
        if isinstance(task, RankingTaskConfig) and not total.moments[key].mean:
            raise InputError(
                f"{where}: expected positives in training rows; found none in the column `{column}`{population}"
            )
        if isinstance(task, BinaryTaskConfig) and total.moments[key].is_constant:
            found = f"only {total.moments[key].mean:g}"
        elif isinstance(task, MulticlassTaskConfig | OrdinalTaskConfig) and total.counts[key].is_constant:
            found = f"only {total.counts[key].table.column('key')[0].as_py()}"
        else:
            continue
        raise InputError(
            f"{where}: expected training labels of two classes at least; found {found} in "
            f"{total.labels[name, 'train']:,} labels of the column `{column}`{population}; see `positive`, `where` and "
            "the split, or remove the task"
        )


def vocabularies(experiment: Experiment, total: FitStatistics) -> dict[str, Vocabulary]:
    """Return the known values of each feature that has some of its own."""
    found = {n: kind.vocabulary(total.features.get(n)) for n, kind in feature_kinds(experiment).items()}
    return {name: vocabulary for name, vocabulary in found.items() if vocabulary is not None}


def supports(experiment: Experiment, total: FitStatistics) -> dict[str, Vocabulary]:
    """Return the training rows of every user and item seen, those below the frequency floor included."""
    return {name: total.features[name].vocabulary() for name in (experiment.user, experiment.item)}


def advice(experiment: Experiment, total: FitStatistics) -> dict[str, str]:
    """Return, by feature, what another setting would do better."""
    kinds = feature_kinds(experiment).items()
    found = {name: kind.advice(total.features[name]) for name, kind in kinds if name in total.features}
    return {name: said for name, said in found.items() if said}


def fitted_features(
    experiment: Experiment, total: FitStatistics, known: Mapping[str, Vocabulary]
) -> dict[str, FittedFeature]:
    """Return the numbers of each input that come from the training rows."""
    return {n: kind.fitted(total.features.get(n), known) for n, kind in feature_kinds(experiment).items()}


def fitted_tasks(experiment: Experiment, total: FitStatistics) -> dict[str, FittedTask]:
    """Return the numbers of each label that come from the training rows."""
    fitted = {}
    for name, task in experiment.tasks.items():
        key = f"{name}.label"
        moments = total.moments.get(key, Moments())
        num_labels = {split: total.labels[name, split] for split in SPLITS}
        classes, levels, shares = (), np.array([0.0, 1.0]), np.array([1 - moments.mean, moments.mean])
        if key in total.distributions:
            levels, shares = total.distributions[key].levels(LEVELS)
        if key in total.counts:
            order = float if isinstance(task, OrdinalTaskConfig) else str
            counts = dict(zip(*(column.to_pylist() for column in total.counts[key].table.columns), strict=True))
            classes = tuple(sorted(counts, key=order))
            if not isinstance(task, OrdinalTaskConfig):
                levels, shares = np.zeros(0), np.array([counts[c] for c in classes]) / max(1, num_labels["train"])
        fitted[name] = FittedTask(
            classes=classes,
            mean=moments.mean,
            std=moments.std or 1.0,
            levels=tuple(levels.tolist()),
            shares=tuple(shares.tolist()),
            num_labels=num_labels,
        )
    return fitted
