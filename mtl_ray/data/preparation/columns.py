"""Which table each column that an experiment names is read from: an attribute comes from the table of its entity."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mtl_ray.config import Experiment
from mtl_ray.config.columns import request_columns
from mtl_ray.errors import InputError, some
from mtl_ray.features.base import feature_kinds

LOG, USERS, ITEMS = "the log", "users", "items"

ORDER = {"user": (USERS, LOG, ITEMS), "item": (ITEMS, LOG, USERS), "context": (LOG, USERS, ITEMS), "log": (LOG,)}
"""The tables in which a column is looked for, by the entity of the feature that reads it. `log` stands for what only
the log can have: ids, the time, and what statistics are made of."""


@dataclass(frozen=True)
class Columns:
    """Where columns are read, and under which names the later passes find them."""

    log: tuple[str, ...]
    """Columns to read from the log."""
    users: Mapping[str, str]
    """Columns of the users table by their name in the joined rows."""
    items: Mapping[str, str]
    joined: frozenset[str]
    """Features that are read from the users or the items table."""


class _Reader(NamedTuple):
    setting: str
    column: str
    name: str
    """Column of the joined rows in which it looks."""
    entity: str | None
    """See `ORDER`; None for one that reads what the features call by that name, and is like `context` without any."""
    feature: str | None = None


def find_columns(experiment: Experiment, log: Sequence[str], users: Sequence[str], items: Sequence[str]) -> Columns:
    """Find every column that the experiment names.

    Raises:
        InputError: a column is nowhere to be found.
    """
    shown = {LOG: log, USERS: users, ITEMS: items}
    attributes = {
        LOG: set(log),
        USERS: set(users) - {experiment.column_of(experiment.user)},
        ITEMS: set(items) - {experiment.column_of(experiment.item)},
    }
    readers = list(_readers(experiment))
    for table, found in shown.items():
        counts = Counter(found)
        for reader in readers:
            if counts[reader.column] > 1:
                raise InputError(
                    f"{reader.setting}: expected one column `{reader.column}`; {table} has several of that name; "
                    "rename or remove all but one"
                )
    places: dict[str, str] = {}
    columns: dict[str, str] = {}
    for reader in sorted(readers, key=lambda reader: (reader.entity is None, reader.entity != "log")):
        if reader.entity is None and reader.name in places:
            continue
        order = ORDER[reader.entity or "context"]
        place = next((table for table in order if reader.column in attributes[table]), None)
        if place is None:
            found = "; ".join(f"{name} has {some(shown[name])}" for name in shown if name in order and shown[name])
            known = [column for name in order for column in shown[name]]
            near = difflib.get_close_matches(reader.column, known, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else "name one of these"
            raise InputError(f"{reader.setting}: expected a column `{reader.column}`; {found}; {hint}")
        name = reader.column if place == LOG else reader.name
        places[name], columns[name] = place, reader.column
    read = {(place, columns[name]) for name, place in places.items()}
    names: dict[str, dict[str, str]] = {USERS: {}, ITEMS: {}}
    for name, place in places.items():
        if place != LOG:
            names[place][name] = columns[name]
    for table, own in names.items():  # what no setting names goes along, for those who read the raw rows
        for column in shown[table]:
            if column in attributes[table] and (table, column) not in read and column not in places:
                own[column], places[column] = column, table
    return Columns(
        tuple(dict.fromkeys(r.column for r in readers if (LOG, r.column) in read)),
        names[USERS],
        names[ITEMS],
        frozenset(r.feature for r in readers if r.feature and places.get(r.name, LOG) != LOG),
    )


def shadowed(experiment: Experiment, log: Sequence[str], users: Sequence[str], items: Sequence[str]) -> list[str]:
    """Return the features whose column is in the table of their entity and, by the same name, elsewhere."""
    own = {"user": set(users), "item": set(items)}
    others = {"user": set(log), "item": {*log, *users}}
    keys = {experiment.column_of(experiment.user), experiment.column_of(experiment.item)}
    requested = request_columns(experiment.features, experiment.data.time)
    return [
        name
        for name, feature in experiment.features.items()
        if feature.is_profile and (column := experiment.column_of(name)) in own.get(feature.entity, ())
        if column in others[feature.entity] and not (column in keys and requested[name] == column)
    ]


def _readers(experiment: Experiment) -> Iterator[_Reader]:
    """Yield all that reads a raw column in `prepare`."""

    def plain(setting: str, column: str, entity: str | None = None) -> _Reader:
        return _Reader(setting, column, column, entity)

    for name in (experiment.user, experiment.item):
        yield plain(f"features.{name}", experiment.column_of(name), "log")
    if experiment.data.time:
        yield plain("data.time", experiment.data.time, "log")
    requested = request_columns(experiment.features, experiment.data.time)
    for name, kind in feature_kinds(experiment).items():
        feature = experiment.features[name]
        for column in kind.log_columns():
            if feature.is_profile and column.name == kind.column:
                yield _Reader(column.setting, column.name, requested[name], feature.entity, name)
            else:
                yield plain(column.setting, column.name, "log" if column.log_only or feature.kind == "id" else None)
    for name, task in experiment.tasks.items():
        yield plain(f"tasks.{name}", task.column or name)
        for column in task.where or {}:
            yield plain(f"tasks.{name}.where", column)
    split = experiment.data.split
    if split.kind == "predefined" and split.column:
        yield plain("data.split.column", split.column)
