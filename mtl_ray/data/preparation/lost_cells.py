"""Cells that hold something which the format of their column cannot read, so that they are null: counted, never lost
in silence."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.config.tasks import RealTaskConfig
from mtl_ray.data.encoding import as_labels
from mtl_ray.errors import InputError
from mtl_ray.features.base import feature_kinds
from mtl_ray.values.canonical import decoded
from mtl_ray.values.columns import raw_values
from mtl_ray.values.numbers import without_words

EXAMPLES, LONGEST = 3, 40
"""Most lost cells that are remembered of a column, and the most characters of each."""


class Formatted(NamedTuple):
    """A raw column that is read by a format."""

    path: str
    """Path of the section that sets the format."""
    column: str
    name: str
    """Its name in rows that are joined with the tables."""
    feature: str | None
    """The feature that reads it; None for a label."""
    read: Callable[[pa.Array], pa.Array]
    """Returns a raw column as the format reads it, null where it cannot."""


class Lost(NamedTuple):
    """Cells of a column that a format could not read; two add up with `added`."""

    column: str
    cells: int
    """Cells that hold something: no null, no blank, no word of `data.null_words`."""
    lost: int
    examples: tuple[str, ...]
    """The first lost cells, and where they are."""


def formatted_columns(experiment: Experiment) -> Iterator[Formatted]:
    """Yield every column that a format reads."""
    for name, kind in feature_kinds(experiment).items():
        if kind.may_lose:
            yield Formatted(f"features.{name}", kind.column, kind.request_column, name, kind.read)
    for name, task in experiment.tasks.items():
        if isinstance(task, RealTaskConfig) and task.format is not None:
            read = partial(as_labels, task, null_words=experiment.data.null_words)
            column = task.column or name
            yield Formatted(f"tasks.{name}", column, column, None, read)


def formatted_in_log(experiment: Experiment, columns: Collection[str], joined: Collection[str]) -> list[Formatted]:
    """Return the formatted columns of the log, which has these columns.

    Args:
        experiment: the experiment.
        columns: columns of the log.
        joined: features that are read from another table, see `Columns`.
    """
    return [each for each in formatted_columns(experiment) if each.column in columns and each.feature not in joined]


def formatted_in_table(experiment: Experiment, names: Collection[str]) -> list[Formatted]:
    """Return the formatted columns of a side table, whose columns have these names in the joined rows."""
    return [each for each in formatted_columns(experiment) if each.name in names]


def lost_cells(
    experiment: Experiment, formatted: Iterable[Formatted], table: pa.Table, where: Callable[[int], str]
) -> dict[str, Lost]:
    """Count, by path, the cells of a table that are lost.

    Args:
        experiment: its `data.null_words` are no losses.
        formatted: the columns to look at.
        table: raw rows.
        where: says where a row is, from its number in the table.
    """
    found = {}
    for each in formatted:
        values = raw_values(table, each.column)
        present = has_value(values, experiment.data.null_words)
        lost = present & np.asarray(each.read(values).is_null())
        rows = np.flatnonzero(lost)
        examples = tuple(f"{str(values[row].as_py())[:LONGEST]!r} ({where(row)})" for row in rows[:EXAMPLES].tolist())
        found[each.path] = Lost(each.column, int(present.sum()), len(rows), examples)
    return found


def added(parts: Iterable[Mapping[str, Lost]]) -> dict[str, Lost]:
    """Add up the losses of several tables."""
    total: dict[str, Lost] = {}
    for part in parts:
        for path, (column, cells, lost, examples) in part.items():
            before = total.get(path, Lost(column, 0, 0, ()))
            both = (*before.examples, *examples)[:EXAMPLES]
            total[path] = Lost(column, before.cells + cells, before.lost + lost, both)
    return total


def refuse_lost_cells(losses: Mapping[str, Lost]) -> None:
    """Raise InputError for a column of which more than half is lost."""
    for path, (column, cells, lost, examples) in losses.items():
        if lost > cells / 2:
            raise InputError(
                f"{path}.format: {lost:,} of {cells:,} cells of the column `{column}` cannot be read, more than half: "
                f"{', '.join(examples)}; correct the format or the column, or leave it out"
            )


def has_value(values: pa.Array, null_words: tuple[str, ...]) -> np.ndarray:
    """Return (n,) bool: whether cells hold something: no null, no blank, no word of `data.null_words`."""
    values = decoded(values)
    if pa.types.is_string(values.type):
        values = without_words(values, null_words)
    return ~np.asarray(values.is_null(nan_is_null=True))
