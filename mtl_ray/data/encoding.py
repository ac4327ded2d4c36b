"""Raw values to the numbers the model reads; the same code in `prepare`, in scoring and in the registered model.

Knows neither Ray nor the log: it encodes any table of raw columns. Missing columns count as null.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    MulticlassTaskConfig,
    MultilabelTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    Scalar,
    TaskConfig,
)
from mtl_ray.features.base import FittedState, feature_kinds
from mtl_ray.schema import Schema
from mtl_ray.values.keys import flat, to_keys
from mtl_ray.values.lists import to_lists
from mtl_ray.values.numbers import to_numbers
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

    def feature(self, name: str, values: pa.Array) -> np.ndarray:
        """Encode the raw values of one input."""
        return self.kinds[name].encode_column(values, self.state)

    def label(self, name: str, table: pa.Table) -> np.ndarray:
        """Encode a task's labels: (n,) float32 with NaN (numbers and binary), (n,) int32 with -1 (multiclass), or
        (n, num_labels) int8 with -1 (multilabel) for "no label"."""
        task = self.experiment.tasks[name]
        values = flat(table.column(self.experiment.tasks[name].column or name))
        absent = ~population(task, table)
        match task:
            case RealTaskConfig():
                return np.where(absent, np.nan, to_numbers(values)).astype(np.float32)
            case BinaryTaskConfig() | RankingTaskConfig():
                return np.where(absent, np.nan, to_flags(values, task)).astype(np.float32)
            case MulticlassTaskConfig():
                classes = pa.array(self.schema.tasks[name].classes, pa.string())
                found = pc.index_in(to_keys(values), value_set=classes).fill_null(-1).to_numpy(zero_copy_only=False)
                return np.where(absent, -1, found).astype(np.int32)
            case MultilabelTaskConfig():
                lists = to_lists(values, task.separator)
                flags = np.zeros((len(lists), len(self.schema.tasks[name].classes)), np.int8)
                classes = pa.array(self.schema.tasks[name].classes, pa.string())
                found = pc.index_in(lists.flatten(), value_set=classes).fill_null(-1).to_numpy(zero_copy_only=False)
                parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
                flags[parents[found >= 0], found[found >= 0]] = 1
                flags[absent | np.asarray(lists.is_null())] = -1
                return flags


def population(task: TaskConfig, table: pa.Table) -> np.ndarray:
    """Return (n,) bool: the rows on which the task is defined (its `where`)."""
    inside = np.ones(len(table), bool)
    for name, values in (task.where or {}).items():
        allowed = to_keys(pa.array([_text(v) for v in (values if isinstance(values, list) else [values])]))
        inside &= np.asarray(pc.is_in(to_keys(table.column(name)), value_set=allowed))
    return inside


def to_binary(values: pa.Array, positive: Scalar | None) -> np.ndarray:
    """Return (n,) float64: 1, 0, or NaN for null; without `positive` the values must be 0/1 or true/false."""
    if positive is None and pa.types.is_integer(values.type):
        numbers = to_numbers(values)
        return np.where(np.isnan(numbers), np.nan, numbers == 1)
    keys = to_keys(values)
    if positive is not None:
        flags = pc.equal(keys, to_keys(pa.array([_text(positive)]))[0])
    else:
        flags = pc.is_in(pc.utf8_lower(keys), value_set=pa.array(["1", "true"]))
    return np.where(np.asarray(keys.is_null()), np.nan, np.asarray(flags.fill_null(False)).astype(np.float64))


def to_flags(values: pa.Array, task: BinaryTaskConfig | RankingTaskConfig) -> np.ndarray:
    """Return (n,) float64: 1 for a positive, 0 for another row, or NaN for null."""
    if isinstance(task, BinaryTaskConfig):
        return to_binary(values, task.positive)
    if task.relevant is None:
        return to_binary(values, None)
    numbers = to_numbers(values)
    return np.where(np.isnan(numbers), np.nan, numbers >= task.relevant)


def _text(value: Scalar) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
