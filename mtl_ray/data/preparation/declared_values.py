"""Values that the settings name. Those of `positive`, `where` and a predefined split must occur in the log; a key of
`map` that does not is told."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.base import Scalar
from mtl_ray.config.data import PredefinedSplitConfig
from mtl_ray.config.features import MultiCategoricalFeatureConfig
from mtl_ray.config.formats import Spelling
from mtl_ray.config.tables import FilesConfig
from mtl_ray.config.tasks import BinaryTaskConfig
from mtl_ray.data.encoding import as_labels
from mtl_ray.errors import InputError
from mtl_ray.features.base import feature_kinds
from mtl_ray.values.booleans import equals
from mtl_ray.values.columns import raw_values
from mtl_ray.values.keys import to_keys
from mtl_ray.values.lists import to_lists
from mtl_ray.values.spelling import folded

EXAMPLES = 10
"""The most values that are remembered of a column in which a declared one was not found."""


class Declared(NamedTuple):
    """Values that a setting names, of which one must occur."""

    path: str
    column: str
    values: tuple[Scalar, ...]
    task: str | None = None
    """The task whose label they are; None if they are compared with the raw column."""

    def cells(self, experiment: Experiment, table: pa.Table) -> pa.Array:
        """Return the column, as its task reads it."""
        values = raw_values(table, self.column)
        null_words = experiment.data.null_words
        return values if self.task is None else as_labels(experiment.tasks[self.task], values, null_words)

    def is_in(self, cells: pa.Array | pa.ChunkedArray) -> bool:
        """Return whether one of the values is among the cells."""
        return any(equals(cells, value).any() for value in self.values)

    def __str__(self) -> str:
        return " or ".join(map(repr, self.values))


@dataclass(frozen=True)
class Occurrences:
    """Declared values that were found, and examples of what else is in the columns of the others; two add up."""

    found: frozenset[Declared] = frozenset()
    examples: Mapping[str, Counter[str]] = field(default_factory=dict)
    """By column, rows by key."""
    mapped: frozenset[str] = frozenset()
    """Paths of the keys of `map` that were found."""

    @classmethod
    def of(cls, experiment: Experiment, table: pa.Table) -> "Occurrences":
        """Look for the declared values in rows of the log, joined with the tables."""
        cells = {one: one.cells(experiment, table) for one in declared_values(experiment)}
        mapped = frozenset(path for path, is_there in _mapped(experiment, table) if is_there)
        return replace(cls.among(cells), mapped=mapped)

    @classmethod
    def among(cls, cells: Mapping[Declared, pa.Array]) -> "Occurrences":
        """Look for each of some values in cells."""
        found = frozenset(one for one in cells if one.is_in(cells[one]))
        missing = {one.column: cells[one] for one in cells if one not in found}
        return cls(found, {column: _most_common(_counted(missing[column])) for column in sorted(missing)})

    def __add__(self, other: "Occurrences") -> "Occurrences":
        columns = {**self.examples, **other.examples}
        both = {c: self.examples.get(c, Counter()) + other.examples.get(c, Counter()) for c in columns}
        examples = {c: _most_common(counts) for c, counts in both.items()}
        return Occurrences(self.found | other.found, examples, self.mapped | other.mapped)

    def unmapped(self, experiment: Experiment) -> list[str]:
        """Return the paths of the keys of `map` that occur in no row."""
        return [path for path, _ in _mapped(experiment, pa.table({})) if path not in self.mapped]

    def refuse_absent(self, experiment: Experiment, files: Collection[str]) -> None:
        """Raise InputError for the first declared value that occurs in no row, or as the name of no file."""
        split = experiment.data.split
        if isinstance(split, PredefinedSplitConfig) and split.column is None:
            names = sorted(set(files))
            for one in _of_split(experiment, split, ""):
                if not one.is_in(pa.array([*names, *(name.rpartition("/")[2] for name in names)])):
                    found = ", ".join(names[:EXAMPLES])
                    raise InputError(f"{one.path}: expected the name of a file of the log; found {one}, not of {found}")
        self.refuse(declared_values(experiment))

    def refuse(self, declared: Sequence[Declared]) -> None:
        """Raise InputError for the first of these values that occurs in no row."""
        for one in declared:
            if one not in self.found:
                counts = self.examples.get(one.column, Counter())
                found = ", ".join(f"{value} ({count:,})" for value, count in counts.items()) or "no value at all"
                raise InputError(
                    f"{one.path}: expected a value that occurs in the column `{one.column}`; {one} is in no "
                    f"row; the column has {found}; correct the value or the column"
                )


def declared_values(experiment: Experiment) -> list[Declared]:
    """Return the values of columns that the settings name."""
    declared = []
    for name, task in experiment.tasks.items():
        if isinstance(task, BinaryTaskConfig) and task.positive is not None:
            declared.append(Declared(f"tasks.{name}.positive", task.column or name, (task.positive,), name))
        for column, allowed in (task.where or {}).items():
            values = allowed if isinstance(allowed, list) else [allowed]
            declared += [Declared(f"tasks.{name}.where.{column}", column, (value,)) for value in values]
    split = experiment.data.split
    if isinstance(split, PredefinedSplitConfig) and split.column is not None:
        declared += _of_split(experiment, split, split.column)
    return declared


def _of_split(experiment: Experiment, split: PredefinedSplitConfig, column: str) -> list[Declared]:
    """Return the values of training rows, which no split can do without, and those that differ from the default.

    The shipped sources use only some of their values with each of their settings, so one of a split's is enough.
    """
    fields, values = type(split).model_fields, {"train": split.train}
    for name in ("valid", "test", "shown"):
        values |= {name: getattr(split, name)} if getattr(split, name) != fields[name].default else {}
    each = isinstance(experiment.data.source, FilesConfig)
    return [
        Declared(f"data.split.{name}", column, one)
        for name, named in values.items()
        for one in ([(value,) for value in named] if each else [named] if named else [])
    ]


def _mapped(experiment: Experiment, table: pa.Table) -> Iterator[tuple[str, bool]]:
    """Yield the path of each key of `map`, and whether it occurs in some joined rows."""
    columns: list[tuple[str, Any, pa.Array]] = []
    for name, kind in feature_kinds(experiment).items():
        if isinstance(kind.config, Spelling) and kind.config.map:
            values = raw_values(table, kind.column_in(table))
            if isinstance(kind.config, MultiCategoricalFeatureConfig):
                values = to_lists(values, kind.config.separator).flatten()
            columns.append((f"features.{name}", kind.config, values))
    for name, task in experiment.tasks.items():
        if isinstance(task, Spelling) and task.map:
            columns.append((f"tasks.{name}", task, raw_values(table, task.column or name)))
    for path, how, values in columns:
        written = folded(pa.array([*how.map]), how)
        there = pc.is_in(written, value_set=folded(values, how).unique().drop_null())
        yield from ((f"{path}.map.{key}", is_there) for key, is_there in zip(how.map, there.to_pylist(), strict=True))


def _counted(column: pa.Array) -> Counter[str]:
    counts = to_keys(column).drop_null().value_counts()
    return Counter(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))


def _most_common(counts: Counter[str]) -> Counter[str]:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return Counter(dict(ordered[:EXAMPLES]))
