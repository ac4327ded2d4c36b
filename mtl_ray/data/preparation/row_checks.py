"""Checks of raw rows. A bad row is set aside with its reason and counted; it is neither used nor lost."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.features import (
    ImageFeatureConfig,
    NumericFeatureConfig,
    SequenceFeatureConfig,
    StatisticFeatureConfig,
    VectorFeatureConfig,
)
from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    CountTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    TaskConfig,
    ValueTaskConfig,
)
from mtl_ray.data.encoding import to_numbers
from mtl_ray.data.preparation.split import ITEM, USER
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.errors import InputError
from mtl_ray.storage import is_text
from mtl_ray.values.keys import flat, to_keys
from mtl_ray.values.vectors import as_variable, bad_vectors, is_lists


def log_columns(experiment: Experiment, log: Sequence[str], users: Sequence[str], items: Sequence[str]) -> list[str]:
    """Return the columns to read from the log: all that the experiment names and the log has.

    Raises:
        InputError: a column is nowhere to be found.
    """
    needed: dict[str, str] = {}
    for name in (experiment.user, experiment.item):
        needed[experiment.column_of(name)] = f"features.{name}"
    if experiment.data.time:
        needed.setdefault(experiment.data.time, "data.time")
    for name, feature in experiment.features.items():
        if not isinstance(feature, SequenceFeatureConfig):
            needed.setdefault(experiment.column_of(name), f"features.{name}")
            if isinstance(feature, StatisticFeatureConfig):
                needed.setdefault(feature.of, f"features.{name}.of")
        elif feature.values:
            needed.setdefault(feature.values, f"features.{name}.values")
    for name, task in experiment.tasks.items():
        needed.setdefault(task.column or name, f"tasks.{name}")
        for column in task.where or {}:
            needed.setdefault(column, f"tasks.{name}.where")
    split = experiment.data.split
    if split.kind == "predefined" and split.column:
        needed.setdefault(split.column, "data.split.column")
    own = {experiment.column_of(experiment.user), experiment.column_of(experiment.item), experiment.data.time}
    own |= {feature.of for feature in experiment.features.values() if isinstance(feature, StatisticFeatureConfig)}
    for column, path in needed.items():
        if column in log or (column not in own and (column in users or column in items)):
            continue
        tables = {"the log": log, "users": users, "items": items} if column not in own else {"the log": log}
        found = "; ".join(f"{name} has {', '.join(columns)}" for name, columns in tables.items() if columns)
        raise InputError(f"{path}: expected a column `{column}`; {found}")
    return [column for column in needed if column in log]


def keys_of(experiment: Experiment, table: pa.Table) -> pa.Table:
    """Return the keys of each row's user and item."""
    columns = {USER: experiment.column_of(experiment.user), ITEM: experiment.column_of(experiment.item)}
    return pa.table({name: to_keys(table.column(column)) for name, column in columns.items()})


def bad_rows(experiment: Experiment, table: pa.Table, keys: pa.Table) -> pa.Array:
    """Return (n,) text that says why a row of the log is unusable, null for a good row. `keys` come from `keys_of`."""
    reasons = _Reasons(len(table))
    reasons.malformed(table)
    for key, name in ((USER, experiment.user), (ITEM, experiment.item)):
        reasons.add(keys.column(key).is_null(), f"{experiment.column_of(name)} is null")
    if experiment.data.time:
        reasons.number(table, experiment.data.time, nullable=False)
    reasons.inputs(experiment, table)
    for feature in experiment.features.values():
        if isinstance(feature, StatisticFeatureConfig):
            reasons.number(table, feature.of)
    for name, task in experiment.tasks.items():
        column = task.column or name
        if column not in table.column_names:
            continue
        if _has_threshold(task):
            reasons.number(table, column)
        elif isinstance(task, RealTaskConfig):
            numbers = reasons.number(table, column)
            if isinstance(task, CountTaskConfig | ValueTaskConfig):
                reasons.add(numbers < 0, f"{column} is negative")
            if task.range:
                low, high = task.range
                outside = (numbers < low) | (numbers > high)
                reasons.add(outside, f"{column} is outside [{low:g}, {high:g}]")
        elif isinstance(task, RankingTaskConfig) or (isinstance(task, BinaryTaskConfig) and task.positive is None):
            keys = pc.utf8_lower(to_keys(table.column(column)))
            known = pc.is_in(keys, value_set=pa.array(["0", "1", "true", "false"]))
            reasons.add(pc.and_(keys.is_valid(), pc.invert(known)), f"{column} is not 0 or 1")
    return reasons.array()


def bad_inputs(experiment: Experiment, table: pa.Table) -> pa.Array:
    """Return (n,) text that says why a row cannot be scored, null for a good row.

    Ids may be null, and any column may be absent.
    """
    reasons = _Reasons(len(table))
    reasons.malformed(table)
    reasons.inputs(experiment, table)
    for name, feature in experiment.features.items():
        if isinstance(feature, SequenceFeatureConfig):
            reasons.lists(table, name)
            if feature.values:
                reasons.lists(table, f"{name}.values", numbers=True)
    return reasons.array()


def _has_threshold(task: TaskConfig) -> bool:
    """Return whether it is a ranking task whose label is a number."""
    return isinstance(task, RankingTaskConfig) and task.relevant is not None


class _Reasons:
    """The first reason found for each row."""

    def __init__(self, num_rows: int) -> None:
        self.texts = np.full(num_rows, None, dtype=object)

    def add(self, bad: pa.Array | pa.ChunkedArray | np.ndarray, reason: str) -> None:
        flags = np.asarray(bad, dtype=bool)
        if not flags.any():
            return
        self.texts[flags & (self.texts == None)] = reason  # noqa: E711 - elementwise

    def malformed(self, table: pa.Table) -> None:
        """Find lines of a CSV file that could not be read."""
        if MALFORMED in table.column_names:
            self.add(table.column(MALFORMED).is_valid(), "malformed line")

    def inputs(self, experiment: Experiment, table: pa.Table) -> None:
        """Check columns of numbers and of vectors, where the table has them."""
        for name, feature in experiment.features.items():
            column = feature.column or name
            if isinstance(feature, NumericFeatureConfig) and column in table.column_names:
                self.number(table, column)
            elif isinstance(feature, VectorFeatureConfig | ImageFeatureConfig) and column in table.column_names:
                for wrong, why in bad_vectors(flat(table.column(column)), feature.size):
                    self.add(wrong, f"{column} {why}")

    def number(self, table: pa.Table, column: str, *, nullable: bool = True) -> np.ndarray:
        """Check a numeric column; return its (n,) float64 values, NaN where there is none."""
        values = flat(table.column(column))
        numbers, wrong = parse_numbers(values)
        self.add(wrong, f"{column} is not a number")
        self.add(np.isinf(numbers), f"{column} is not finite")
        if not nullable:
            self.add(np.isnan(numbers) & ~wrong, f"{column} is null")
        return numbers

    def lists(self, table: pa.Table, column: str, *, numbers: bool = False) -> None:
        """Check a column of lists, where the table has it."""
        if column not in table.column_names:
            return
        lists = as_variable(flat(table.column(column)))
        if not is_lists(lists.type):
            self.add(to_keys(lists).is_valid(), f"{column} is not a list")  # an empty CSV cell is null, which is fine
        elif numbers:
            _, wrong = parse_numbers(lists.fill_null([]).flatten())
            parents = pc.list_parent_indices(lists.fill_null([])).to_numpy(zero_copy_only=False)
            self.add(np.bincount(parents[wrong], minlength=len(lists)) > 0, f"{column} holds what is not a number")

    def array(self) -> pa.Array:
        return pa.array(self.texts, pa.string())


def parse_numbers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) float64 numbers, NaN where there is none, and (n,) bool: true for what is not a number.

    A text that is no number and a NaN are not numbers; a null is neither.
    """
    try:
        numbers = to_numbers(values)
        wrong = np.zeros(len(values), bool)
    except ValueError:
        good = np.asarray(pc.match_substring_regex(values, NUMBER).fill_null(True))
        wrong = ~good
        numbers = to_numbers(pc.if_else(pa.array(good), values, None))
    if pa.types.is_floating(values.type):
        wrong = wrong | np.asarray(pc.is_nan(values).fill_null(False))
    return numbers, wrong


NUMBER = r"^\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf)?\s*$"


def clean_table(experiment: Experiment, table: pa.Table, key: str, name: str) -> tuple[pa.Table, dict[str, int]]:
    """Clean a side table: unique non-null keys, and numbers where numbers are expected; count what was mended.

    A cell that should be a number, vector or image and is not becomes null; of several rows of one entity the first
    stays. Text columns come back dictionary-encoded: joined to millions of log rows, each text is then encoded once.

    Raises:
        InputError: the key column is missing.
    """
    if key not in table.column_names:
        raise InputError(f"{name} table: expected the key column `{key}`; found {', '.join(table.column_names)}")
    mended: Counter[str] = Counter()
    keys = to_keys(table.column(key))
    first = np.zeros(len(keys), bool)
    positions = (
        pa.table({"key": keys, "row": pa.array(np.arange(len(keys)))}).group_by("key").aggregate([("row", "min")])
    )
    first[positions.column("row_min").to_numpy()] = True
    mended[f"{name}.{key} is null"] = keys.null_count
    first &= np.asarray(keys.is_valid())
    mended[f"{name}.{key} is repeated"] = len(keys) - keys.null_count - int(first.sum())
    numeric = {f.column or n for n, f in experiment.features.items() if isinstance(f, NumericFeatureConfig)}
    numeric |= {
        t.column or n for n, t in experiment.tasks.items() if isinstance(t, RealTaskConfig) or _has_threshold(t)
    }
    sizes = {
        f.column or n: f.size
        for n, f in experiment.features.items()
        if isinstance(f, VectorFeatureConfig | ImageFeatureConfig)
    }
    columns: dict[str, pa.Array] = {}
    for column in table.column_names:
        values = as_variable(flat(table.column(column))).filter(pa.array(first))
        if column == key:
            values = keys.filter(pa.array(first))
        elif column in numeric:
            numbers, wrong = parse_numbers(values)
            unusable = wrong | np.isinf(numbers)
            mended[f"{name}.{column} is not a finite number"] = int(unusable.sum())
            values = pa.array(np.where(unusable, np.nan, numbers), from_pandas=True)
        elif column in sizes:
            for unusable, why in bad_vectors(values, sizes[column]):
                mended[f"{name}.{column} {why}"] = int(unusable.sum())
                values = pc.if_else(pa.array(unusable), None, values)
        elif is_text(values.type):
            values = values.cast(pa.string()).dictionary_encode()
        columns[column] = values
    return pa.table(columns), {reason: count for reason, count in mended.items() if count}
