"""Raw values to the numbers the model reads; the same code in `prepare`, in scoring and in the registered model.

Knows neither Ray nor the log: it encodes any table of raw columns. Missing columns count as null.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.data import NULL_WORDS
from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    MulticlassTaskConfig,
    MultilabelTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    TaskConfig,
)
from mtl_ray.features.base import FittedState, feature_kinds
from mtl_ray.schema import Schema
from mtl_ray.values.booleans import equals, is_word, key_equals, parse_booleans
from mtl_ray.values.canonical import plain
from mtl_ray.values.keys import to_keys
from mtl_ray.values.lists import to_lists
from mtl_ray.values.money import as_numbers
from mtl_ray.values.numbers import to_numbers
from mtl_ray.values.spelling import spelled
from mtl_ray.values.vocabulary import Vocabulary


class Encoder:
    """Encodes raw columns with what was fitted on the training rows."""

    def __init__(self, experiment: Experiment, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> None:
        self.experiment = experiment
        self.schema = schema
        self.vocabularies = vocabularies
        self.kinds = feature_kinds(experiment)
        self.state = FittedState(schema.features, vocabularies)

    def features(self, table: pa.Table, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Encode inputs, all by default, to columns by name; see `FeatureKind.encoded_columns`.

        Raises:
            ValueError: a numeric column holds text that is not a number, or a list of numbers has another length.
        """
        encoded: dict[str, np.ndarray] = {}
        for name in self.kinds if names is None else names:
            encoded |= self.kinds[name].encode(table, self.state)
        return encoded

    def label(self, name: str, table: pa.Table) -> np.ndarray:
        """Encode a task's labels: (n,) float32 with NaN (numbers and binary), (n,) int32 with -1 (multiclass), or
        (n, num_labels) int8 with -1 (multilabel) for "no label"."""
        task, null_words = self.experiment.tasks[name], self.experiment.data.null_words
        values = as_labels(task, plain(table.column(task.column or name)), null_words)
        absent = ~population(task, table)
        classes = to_keys(pa.array(self.schema.tasks[name].classes, pa.string()))
        match task:
            case RealTaskConfig():
                return np.where(absent, np.nan, to_numbers(values, null_words)).astype(np.float32)
            case BinaryTaskConfig() | RankingTaskConfig():
                return np.where(absent, np.nan, to_flags(values, task, null_words)).astype(np.float32)
            case MulticlassTaskConfig():
                found = pc.index_in(to_keys(values), value_set=classes).fill_null(-1).to_numpy(zero_copy_only=False)
                return np.where(absent, -1, found).astype(np.int32)
            case MultilabelTaskConfig():
                lists = to_lists(values, task.separator)
                flags = np.zeros((len(lists), len(self.schema.tasks[name].classes)), np.int8)
                found = pc.index_in(lists.flatten(), value_set=classes).fill_null(-1).to_numpy(zero_copy_only=False)
                parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
                flags[parents[found >= 0], found[found >= 0]] = 1
                flags[absent | np.asarray(lists.is_null())] = -1
                return flags


def texts(experiment: Experiment) -> list[str]:
    """Return the names of the features whose vocabularies hold words."""
    return [name for name, feature in experiment.features.items() if feature.kind == "text"]


def as_labels(task: TaskConfig, values: pa.Array, null_words: tuple[str, ...]) -> pa.Array:
    """Return a label column as the settings of its task say that it is written."""
    match task:
        case RealTaskConfig():
            return as_numbers(values, task, null_words)
        case BinaryTaskConfig() | MulticlassTaskConfig():
            return spelled(values, task)
    return values


def population(task: TaskConfig, table: pa.Table) -> np.ndarray:
    """Return (n,) bool: the rows on which the task is defined (its `where`)."""
    inside = np.ones(len(table), bool)
    for name, allowed in (task.where or {}).items():
        values = allowed if isinstance(allowed, list) else [allowed]
        inside &= np.any([equals(table.column(name), value) for value in values], axis=0)
    return inside


def to_flags(
    values: pa.Array, task: BinaryTaskConfig | RankingTaskConfig, null_words: tuple[str, ...] = NULL_WORDS
) -> np.ndarray:
    """Return (n,) float64: 1 for a positive, 0 for another row, or NaN where there is no label."""
    if isinstance(task, BinaryTaskConfig) and task.positive is not None:
        keys = to_keys(values)
        absent = np.asarray(keys.is_null())
        if not isinstance(task.positive, str):
            absent = absent | is_word(keys, null_words)
        return np.where(absent, np.nan, key_equals(keys, task.positive))
    if isinstance(task, RankingTaskConfig) and task.relevant is not None:
        numbers = to_numbers(values, null_words)
        return np.where(np.isnan(numbers), np.nan, numbers >= task.relevant)
    return parse_booleans(values, null_words)[0]
