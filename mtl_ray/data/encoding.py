"""Raw values to the numbers the model reads; the same code in `prepare`, in scoring and in the registered model.

Knows neither Ray nor the log: it encodes any table of raw columns. Missing columns count as null.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.features import (
    CategoricalFeatureConfig,
    FeatureConfig,
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
    RankingTaskConfig,
    RealTaskConfig,
    Scalar,
    TaskConfig,
)
from mtl_ray.schema import FIRST, NULL, PADDING, FittedFeature, Schema
from mtl_ray.storage import is_text
from mtl_ray.values.keys import decoded, flat, to_keys
from mtl_ray.values.vectors import as_variable, is_lists, to_vectors
from mtl_ray.values.vocabulary import Vocabulary

WORDS = r"[^\p{L}\p{N}]+"


class Encoder:
    """Encodes raw columns with what was fitted on the training rows."""

    def __init__(self, experiment: Experiment, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> None:
        self.experiment = experiment
        self.schema = schema
        self.vocabularies = vocabularies

    def features(self, table: pa.Table, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Encoded inputs by feature name, all by default: (n,) or (n, length) int32, (n,) or (n, size)
        float32 with NaN for null; of a statistic (n, 2) float32, of what all training rows say.

        A history is read from the column of its own name: a list of item ids, oldest first; absent means none. The
        values that go with it are a list of numbers in `NAME.values`, by default unknown (0, the mean).

        Raises:
            ValueError: a numeric column holds text that is not a number, or a list of numbers has another length.
        """
        encoded = {}
        for name in self.experiment.features if names is None else names:
            feature = self.experiment.features[name]
            encoded[name] = self.feature(name, column(table, self.experiment, name))
            if isinstance(feature, SequenceFeatureConfig) and feature.values:
                encoded[f"{name}.values"] = self._sequence_values(name, feature, table)
        return encoded

    def feature(self, name: str, values: pa.Array) -> np.ndarray:
        """One input, see `features`."""
        if pa.types.is_dictionary(values.type):  # what many rows share is encoded once
            distinct = pa.concat_arrays([values.dictionary, pa.nulls(1, values.type.value_type)])
            return self.feature(name, distinct)[values.indices.fill_null(len(distinct) - 1).to_numpy()]
        feature = self.experiment.features[name]
        match feature:
            case IdFeatureConfig() | CategoricalFeatureConfig():
                return self.vocabularies[name].rows(to_keys(values))
            case NumericFeatureConfig():
                return _numbers(feature, self.schema.features[name], to_numbers(values))
            case StatisticFeatureConfig():
                return self.statistic(name, self.vocabularies[name].tally(to_keys(values)))
            case VectorFeatureConfig() | ImageFeatureConfig():
                scale = feature.scale if isinstance(feature, ImageFeatureConfig) else 1.0
                return to_vectors(values, feature.size, name) / np.float32(scale)
            case SequenceFeatureConfig():
                ids = self.vocabularies[feature.of]
                return _padded(values, ids, feature.max_length, last=True)
            case MultiCategoricalFeatureConfig() | TextFeatureConfig():
                rows = _padded(to_lists(values, feature), self.vocabularies[name], feature.max_length, last=False)
                rows[:, 0] = np.where(rows[:, 0] == PADDING, NULL, rows[:, 0])
                return rows

    def _sequence_values(self, name: str, feature: SequenceFeatureConfig, table: pa.Table) -> np.ndarray:
        raw = f"{name}.values"
        if raw not in table.column_names:
            return np.zeros((len(table), feature.max_length), np.float32)
        lists = flat(table.column(raw))
        if pa.types.is_null(lists.type):
            lists = lists.cast(pa.list_(pa.float64()))
        numbers = self.standardised(name, to_numbers(lists.fill_null([]).flatten()))
        return _last(numbers, lists.fill_null([]), feature.max_length)

    def standardised(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """(n,) float32: numbers in units of the training rows' deviation from their mean; 0 for NaN."""
        fitted = self.schema.features[name]
        return np.nan_to_num((numbers - (fitted.mean or 0.0)) / (fitted.std or 1.0)).astype(np.float32)

    def statistic(self, name: str, seen: np.ndarray) -> np.ndarray:
        """(n, 2) float32 of (n, 2) numbers and sums of labels: how far the shrunken mean is from the mean of all, in
        units of its spread, and log(1 + number) / 4. A key without labels has zeros."""
        fitted, feature = self.schema.features[name], self.experiment.features[name]
        assert isinstance(feature, StatisticFeatureConfig)
        mean, std = fitted.mean or 0.0, fitted.std or 1.0
        count, total = seen.T
        away = (total - count * mean) / (count + feature.prior) / std
        return np.stack([away, np.log1p(count) / 4], 1).astype(np.float32)

    def label(self, name: str, table: pa.Table) -> np.ndarray:
        """A task's labels: (n,) float32 with NaN (numbers and binary), (n,) int32 with -1 (multiclass), or
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
                lists = to_lists(values, task)
                flags = np.zeros((len(lists), len(self.schema.tasks[name].classes)), np.int8)
                classes = pa.array(self.schema.tasks[name].classes, pa.string())
                found = pc.index_in(lists.flatten(), value_set=classes).fill_null(-1).to_numpy(zero_copy_only=False)
                parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
                flags[parents[found >= 0], found[found >= 0]] = 1
                flags[absent | np.asarray(lists.is_null())] = -1
                return flags


def column(table: pa.Table, experiment: Experiment, name: str) -> pa.Array:
    """Raw values of a feature; nulls if the table does not have its column."""
    feature = experiment.features[name]
    raw = name if isinstance(feature, SequenceFeatureConfig) else experiment.column_of(name)
    if raw not in table.column_names:
        return pa.nulls(
            len(table), pa.list_(pa.string()) if isinstance(feature, SequenceFeatureConfig) else pa.string()
        )
    return as_variable(flat(table.column(raw)))


def population(task: TaskConfig, table: pa.Table) -> np.ndarray:
    """(n,) bool: the rows on which the task is defined (its `where`)."""
    inside = np.ones(len(table), bool)
    for name, values in (task.where or {}).items():
        allowed = to_keys(pa.array([_text(v) for v in (values if isinstance(values, list) else [values])]))
        inside &= np.asarray(pc.is_in(to_keys(table.column(name)), value_set=allowed))
    return inside


def to_numbers(values: pa.Array) -> np.ndarray:
    """(n,) float64, NaN for null. Raises ValueError for text that is not a number."""
    values = decoded(values)
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("ns")).cast(pa.int64())
    if is_text(values.type):
        values = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.equal(values, ""), None, values)
    return values.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False)


def to_binary(values: pa.Array, positive: Scalar | None) -> np.ndarray:
    """(n,) float64: 1, 0, or NaN for null; without `positive` the values must be 0/1 or true/false."""
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
    """(n,) float64: 1 for a positive, 0 for another row, or NaN for null."""
    if isinstance(task, BinaryTaskConfig):
        return to_binary(values, task.positive)
    if task.relevant is None:
        return to_binary(values, None)
    numbers = to_numbers(values)
    return np.where(np.isnan(numbers), np.nan, numbers >= task.relevant)


def to_lists(values: pa.Array, spec: FeatureConfig | TaskConfig) -> pa.ListArray:
    """Lists of text keys of a set-valued or text column; null stays null."""
    values = decoded(values)
    if is_lists(values.type):
        lists = values
    elif isinstance(spec, TextFeatureConfig):
        lists = pc.split_pattern_regex(pc.utf8_lower(values.cast(pa.string())), WORDS)
    else:
        lists = pc.split_pattern(values.cast(pa.string()), getattr(spec, "separator", "|"))
    filled = lists.fill_null([])
    keys, parents = to_keys(filled.flatten()), pc.list_parent_indices(filled).to_numpy(zero_copy_only=False)
    kept = np.asarray(keys.is_valid())  # blanks, as in "a||b" or around the punctuation of a title, are no entries
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parents[kept], minlength=len(lists)))])
    mask = flat(lists.is_null())
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), keys.filter(pa.array(kept)), mask=mask)


def _padded(lists: pa.Array, vocabulary: Vocabulary, length: int, *, last: bool) -> np.ndarray:
    """(n, length) int32: the first (or last) entries of each list, padded on the right."""
    if not is_lists(lists.type):
        lists = pa.nulls(len(lists), pa.list_(pa.string()))
    lists = lists.fill_null([])
    rows = vocabulary.rows(to_keys(lists.flatten()))
    if last:
        return _last(rows, lists, length)
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    return gather(rows, np.cumsum(sizes) - sizes, np.minimum(sizes, length), length)


def _last(values: np.ndarray, lists: pa.Array, length: int) -> np.ndarray:
    """(n, length): the last entries of each list, whose flattened values are `values`, padded on the right."""
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    kept = np.minimum(sizes, length)
    return gather(values, np.cumsum(sizes) - kept, kept, length)


def gather(values: np.ndarray, starts: np.ndarray, sizes: np.ndarray, length: int) -> np.ndarray:
    """(n, length): row i is `values[starts[i] : starts[i] + sizes[i]]`, padded on the right with 0."""
    steps = np.arange(length)
    inside = steps < sizes[:, None]
    positions = np.where(inside, starts[:, None] + steps, 0)
    return np.where(inside, values[positions] if len(values) else 0, 0).astype(values.dtype)


def _numbers(feature: NumericFeatureConfig, fitted: FittedFeature, numbers: np.ndarray) -> np.ndarray:
    if feature.buckets is None:
        return ((numbers - (fitted.mean or 0.0)) / (fitted.std or 1.0)).astype(np.float32)
    buckets = np.searchsorted(np.asarray(fitted.boundaries or ()), numbers, side="right") + FIRST
    return np.where(np.isnan(numbers), NULL, buckets).astype(np.int32)


def _text(value: Scalar) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
