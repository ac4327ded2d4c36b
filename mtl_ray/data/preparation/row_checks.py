"""Checks of raw rows. A bad row is set aside with its reason and counted; it is neither used nor lost."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    CountTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    TaskConfig,
    ValueTaskConfig,
)
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.errors import InputError
from mtl_ray.features.base import feature_kinds
from mtl_ray.storage import is_text
from mtl_ray.values.keys import flat, to_keys
from mtl_ray.values.numbers import bad_numbers, mend_numbers, parse_numbers
from mtl_ray.values.partition import ITEM, USER
from mtl_ray.values.vectors import as_variable


def keys_of(experiment: Experiment, table: pa.Table) -> pa.Table:
    """Return the keys of each row's user and item."""
    columns = {USER: experiment.column_of(experiment.user), ITEM: experiment.column_of(experiment.item)}
    return pa.table({name: to_keys(table.column(column)) for name, column in columns.items()})


def bad_rows(experiment: Experiment, table: pa.Table, keys: pa.Table, joined: frozenset[str] = frozenset()) -> pa.Array:
    """Return (n,) text that says why a row of the log is unusable, null for a good row.

    Args:
        experiment: the experiment.
        table: rows of the log.
        keys: see `keys_of`.
        joined: features that are read from another table; a column of the log of that name is another thing.
    """
    reasons = _Reasons(len(table))
    reasons.malformed(table)
    for key, name in ((USER, experiment.user), (ITEM, experiment.item)):
        reasons.add(keys.column(key).is_null(), f"{experiment.column_of(name)} is null")
    if experiment.data.time:
        reasons.number(table, experiment.data.time, nullable=False)
    kinds = [kind for name, kind in feature_kinds(experiment).items() if name not in joined]
    for part in (*(kind.bad_cells(table) for kind in kinds), *(kind.bad_log_cells(table) for kind in kinds)):
        for wrong, why in part:
            reasons.add(wrong, why)
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
    kinds = feature_kinds(experiment).values()
    for part in (*(kind.bad_cells(table) for kind in kinds), *(kind.bad_request_cells(table) for kind in kinds)):
        for wrong, why in part:
            reasons.add(wrong, why)
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
        """Add lines of a CSV file that could not be read."""
        if MALFORMED in table.column_names:
            self.add(table.column(MALFORMED).is_valid(), "malformed line")

    def number(self, table: pa.Table, column: str, *, nullable: bool = True) -> np.ndarray:
        """Check a numeric column; return its (n,) float64 values, NaN where there is none."""
        values = flat(table.column(column))
        numbers, wrong = parse_numbers(values)
        for flags, why in bad_numbers(numbers, wrong, column):
            self.add(flags, why)
        if not nullable:
            self.add(np.isnan(numbers) & ~wrong, f"{column} is null")
        return numbers

    def array(self) -> pa.Array:
        return pa.array(self.texts, pa.string())


Mender = Callable[[pa.Array], tuple[pa.Array, dict[str, int]] | None]


def _first(menders: Sequence[Mender], values: pa.Array) -> tuple[pa.Array, dict[str, int]] | None:
    return next((found for mend in menders if (found := mend(values)) is not None), None)


def clean_table(
    experiment: Experiment, table: pa.Table, key: str, name: str, names: Collection[str] | None = None
) -> tuple[pa.Table, dict[str, int]]:
    """Clean a side table: unique non-null keys, and numbers where numbers are expected; count what was mended.

    A cell that should be a number, vector or image and is not becomes null; of several rows of one entity the first
    stays. Text columns come back dictionary-encoded: joined to millions of log rows, each text is then encoded once.

    Args:
        experiment: says what should be a number.
        table: the side table.
        key: its key column.
        name: `users` or `items`.
        names: names of its columns in the joined rows, see `Columns`; by default their own.

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
    menders: dict[str, list[Mender]] = {}
    names = table.column_names if names is None else names
    for feature, kind in feature_kinds(experiment).items():
        if experiment.features[feature].is_profile and kind.request_column in names:
            menders.setdefault(kind.column, []).append(kind.mend)
    for task_name, task in experiment.tasks.items():
        if (task.column or task_name) in names and (isinstance(task, RealTaskConfig) or _has_threshold(task)):
            menders.setdefault(task.column or task_name, []).append(mend_numbers)
    columns: dict[str, pa.Array] = {}
    for column in table.column_names:
        values = as_variable(flat(table.column(column))).filter(pa.array(first))
        if column == key:
            values = keys.filter(pa.array(first))
        elif (found := _first(menders.get(column, ()), values)) is not None:
            values, counts = found
            mended.update({f"{name}.{column} {why}": count for why, count in counts.items()})
        elif is_text(values.type):
            values = values.cast(pa.string()).dictionary_encode()
        columns[column] = values
    return pa.table(columns), {reason: count for reason, count in mended.items() if count}
