"""Checks of raw rows. A bad row is set aside with its reason and counted; it is neither used nor lost."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.config.formats import ISO
from mtl_ray.config.tables import EventsSourceConfig
from mtl_ray.config.tasks import (
    BinaryTaskConfig,
    CountTaskConfig,
    MulticlassTaskConfig,
    RankingTaskConfig,
    RealTaskConfig,
    TaskConfig,
    ValueTaskConfig,
)
from mtl_ray.data.encoding import as_labels
from mtl_ray.data.preparation.event_rows import events_of
from mtl_ray.data.preparation.lost_cells import formatted_in_table, has_value
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.errors import InputError, some
from mtl_ray.features.base import feature_kinds
from mtl_ray.parquet import is_text
from mtl_ray.values.booleans import mend_booleans, parse_booleans
from mtl_ray.values.canonical import flat, is_single, plain
from mtl_ray.values.columns import raw_values
from mtl_ray.values.keys import bad_keys, to_keys
from mtl_ray.values.money import as_numbers
from mtl_ray.values.numbers import bad_numbers, mend_numbers, parse_numbers
from mtl_ray.values.partition import ITEM, USER
from mtl_ray.values.times import parse_times
from mtl_ray.values.vectors import as_variable


def keys_of(experiment: Experiment, table: pa.Table) -> pa.Table:
    """Return the keys of each row's user and item."""
    columns = {USER: experiment.column_of(experiment.user), ITEM: experiment.column_of(experiment.item)}
    return pa.table({name: key_column(table, column, "the log") for name, column in columns.items()})


def key_column(table: pa.Table, column: str, where: str) -> pa.Array:
    """Return the text keys of a column of ids. Raises InputError if it holds lists."""
    values = raw_values(table, column)
    if not is_single(values.type):
        raise InputError(f"{where}: expected one id in each row of `{column}`; found {values.type}")
    return to_keys(values)


def bad_rows(experiment: Experiment, table: pa.Table, keys: pa.Table, joined: frozenset[str] = frozenset()) -> pa.Array:
    """Return (n,) text that says why a row of the log is unusable, null for a good row.

    Args:
        experiment: the experiment.
        table: rows of the log.
        keys: see `keys_of`.
        joined: features that are read from another table; a column of the log of that name is another thing.
    """
    reasons = _Reasons(len(table), experiment.data.null_words)
    reasons.malformed(table)
    reasons.keys(experiment, keys)
    if experiment.data.time:
        reasons.time(table, experiment.data.time, experiment.data.time_format)
    kinds = [kind for name, kind in feature_kinds(experiment).items() if name not in joined]
    for part in (*(kind.bad_cells(table) for kind in kinds), *(kind.bad_log_cells(table) for kind in kinds)):
        for wrong, why in part:
            reasons.add(wrong, why)
    for column in _key_columns(experiment):
        if column in table.column_names:
            for flags, why in bad_keys(raw_values(table, column), column):
                reasons.add(flags, why)
    for name, task in experiment.tasks.items():
        column = task.column or name
        if column not in table.column_names:
            continue
        labels = as_labels(task, raw_values(table, column), experiment.data.null_words)
        if _has_threshold(task):
            reasons.number(labels, column)
        elif isinstance(task, RealTaskConfig):
            numbers = reasons.number(labels, column)
            if isinstance(task, CountTaskConfig | ValueTaskConfig):
                reasons.add(numbers < 0, f"{column} is negative")
            if task.range:
                low, high = task.range
                outside = (numbers < low) | (numbers > high)
                reasons.add(outside, f"{column} is outside [{low:g}, {high:g}]")
        elif is_flag(task) and is_single(labels.type):
            _, wrong = parse_booleans(labels, experiment.data.null_words)
            reasons.add(wrong, f"{column} is not 0 or 1")
    return reasons.array()


def bad_events(experiment: Experiment, source: EventsSourceConfig, table: pa.Table, keys: pa.Table) -> pa.Array:
    """Return (n,) text that says why an event cannot become a part of a row, null for a good one.

    Args:
        experiment: the experiment.
        source: how rows are made of events.
        table: events.
        keys: see `keys_of`.
    """
    reasons = _Reasons(len(table), experiment.data.null_words)
    reasons.malformed(table)
    reasons.keys(experiment, keys)
    for column in (*source.unit, *((source.event,) if source.event else ())):
        values = raw_values(table, column)
        for flags, why in bad_keys(values, column):
            reasons.add(flags, why)
        if is_single(values.type):
            reasons.add(to_keys(values).is_null(), f"{column} is null")
    if experiment.data.time:
        reasons.time(table, experiment.data.time, experiment.data.time_format)
    for value in source.values.values():
        if value.column and value.by != "count":
            is_meant = events_of(source, table, value.of)
            cells = raw_values(table, value.column)
            read = as_numbers(cells, value, reasons.null_words)
            numbers, wrong = parse_numbers(read, reasons.null_words)
            if value.format is not None:
                wrong = has_value(cells, reasons.null_words) & np.asarray(read.is_null())
            for flags, why in bad_numbers(numbers, wrong, value.column):
                reasons.add(flags & is_meant, why)
    return reasons.array()


def bad_inputs(experiment: Experiment, table: pa.Table) -> pa.Array:
    """Return (n,) text that says why a row cannot be scored, null for a good row.

    Ids may be null, and any column may be absent.
    """
    reasons = _Reasons(len(table), experiment.data.null_words)
    reasons.malformed(table)
    kinds = feature_kinds(experiment).values()
    for part in (*(kind.bad_cells(table) for kind in kinds), *(kind.bad_request_cells(table) for kind in kinds)):
        for wrong, why in part:
            reasons.add(wrong, why)
    return reasons.array()


def _key_columns(experiment: Experiment) -> Iterator[str]:
    """Yield the columns of labels, populations and splits whose values are compared by their keys."""
    for name, task in experiment.tasks.items():
        yield from task.where or {}
        if isinstance(task, MulticlassTaskConfig | BinaryTaskConfig) or is_flag(task):
            yield task.column or name
    split = experiment.data.split
    if split.kind == "predefined" and split.column:
        yield split.column


def is_flag(task: TaskConfig) -> bool:
    """Return whether labels are 0/1 or true/false."""
    return isinstance(task, BinaryTaskConfig | RankingTaskConfig) and (
        task.positive is None if isinstance(task, BinaryTaskConfig) else task.relevant is None
    )


def _has_threshold(task: TaskConfig) -> bool:
    """Return whether it is a ranking task whose label is a number."""
    return isinstance(task, RankingTaskConfig) and task.relevant is not None


class _Reasons:
    """The first reason found for each row."""

    def __init__(self, num_rows: int, null_words: tuple[str, ...]) -> None:
        self.null_words = null_words
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

    def keys(self, experiment: Experiment, keys: pa.Table) -> None:
        """Check the keys of user and item, see `keys_of`."""
        for key, name in ((USER, experiment.user), (ITEM, experiment.item)):
            self.add(keys.column(key).is_null(), f"{experiment.column_of(name)} is null")

    def number(self, values: pa.Array, column: str) -> np.ndarray:
        """Check a numeric column; return its (n,) float64 values, NaN where there is none."""
        numbers, wrong = parse_numbers(values, self.null_words)
        for flags, why in bad_numbers(numbers, wrong, column):
            self.add(flags, why)
        return numbers

    def time(self, table: pa.Table, column: str, formats: tuple[str, ...]) -> None:
        """Check the column of times."""
        times, _, wrong = parse_times(raw_values(table, column), self.null_words, formats)
        if formats != ISO:
            self.add(wrong, f"{column} is not written as data.time_format says: {' or '.join(formats)}")
        for flags, why in bad_numbers(times, wrong, column):
            self.add(flags, why)
        self.add(np.isnan(times) & ~wrong, f"{column} is null")

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
        raise InputError(f"{name} table: expected the key column `{key}`; found {some(table.column_names)}")
    mended: Counter[str] = Counter()
    keys = key_column(table, key, f"{name} table")
    null_words = experiment.data.null_words
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
    formatted = {each.column for each in formatted_in_table(experiment, names)}  # they are read where they are used
    for task_name, task in experiment.tasks.items():
        if (task.column or task_name) not in names:
            continue
        if isinstance(task, RealTaskConfig) or _has_threshold(task):
            menders.setdefault(task.column or task_name, []).append(partial(mend_numbers, null_words=null_words))
        elif is_flag(task) and not (isinstance(task, BinaryTaskConfig) and task.is_set):
            menders.setdefault(task.column or task_name, []).append(partial(mend_booleans, null_words=null_words))
    columns: dict[str, pa.Array] = {}
    for column in table.column_names:
        values = flat(table.column(column))
        if not pa.types.is_binary(values.type):  # such as pictures, which mostly nobody reads
            values = plain(values)
        values = as_variable(values).filter(pa.array(first))
        if column == key:
            values = keys.filter(pa.array(first))
        elif column not in formatted and (found := _first(menders.get(column, ()), values)) is not None:
            values, counts = found
            mended.update({f"{name}.{column} {why}": count for why, count in counts.items()})
        if column != key and is_text(values.type):
            values = values.dictionary_encode()
        columns[column] = values
    return pa.table(columns), {reason: count for reason, count in mended.items() if count}
