"""All that is known of a log and its tables before anything is decided."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mtl_ray.drafting.facts import Facts, facts_of
from mtl_ray.drafting.groups import BELONGS, spared
from mtl_ray.drafting.joins import Join, key_of_table
from mtl_ray.drafting.sample import Table, look_at_log, look_at_table

USERS, ITEMS = "users", "items"


@dataclass(frozen=True)
class Look:
    """A log and its tables, looked at."""

    log: Table
    tables: Mapping[str, Table]
    """By `users` and `items`."""

    @cached_property
    def columns(self) -> dict[str, Facts]:
        """Columns of the log."""
        return _facts(self.log)

    @cached_property
    def table_columns(self) -> dict[str, dict[str, Facts]]:
        """Columns of each table."""
        return {entity: _facts(table) for entity, table in self.tables.items()}

    @cached_property
    def joins(self) -> dict[str, Join]:
        """The key of each table. Raises InputError if there is none."""
        return {
            entity: key_of_table(self.columns, self.table_columns[entity], table, entity)
            for entity, table in self.tables.items()
        }

    def belongs(self, column: str, key: str) -> float:
        """Return how far a column of the log is a property of an id, see `groups.spared`; 0 if it is none."""
        if (pair := (column, key)) not in self._belongs:
            found = spared(self.columns[key].codes, self.columns[column].codes)
            self._belongs[pair] = found if found >= BELONGS else 0.0
        return self._belongs[pair]

    @cached_property
    def _belongs(self) -> dict[tuple[str, str], float]:
        return {}


def look(log: Any, users: Any = None, items: Any = None) -> Look:
    """Look at a log and its tables: paths or frames.

    Raises:
        InputError: one of them cannot be read, or has no rows.
    """
    found = look_at_log(log)
    given = {USERS: users, ITEMS: items}
    tables = {name: look_at_table(one, name, found.dialect) for name, one in given.items() if one is not None}
    return Look(found, tables)


def _facts(table: Table) -> dict[str, Facts]:
    names = sorted(dict.fromkeys(table.rows.column_names))
    return {name: facts_of(name, table.rows.column(name)) for name in names if table.rows.column_names.count(name) == 1}
