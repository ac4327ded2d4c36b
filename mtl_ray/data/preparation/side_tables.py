"""The tables of users and items, ready to be joined."""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.data.preparation.columns import Columns, find_columns
from mtl_ray.data.preparation.lost_cells import Lost, formatted_in_table, lost_cells
from mtl_ray.data.preparation.partition import SideTable
from mtl_ray.data.preparation.row_checks import clean_table
from mtl_ray.data.sources import Raw


class SideTables(NamedTuple):
    """The tables, None for one that is not there, and what they lack."""

    users: SideTable | None
    items: SideTable | None
    mended: dict[str, int]
    """How often each thing had to be mended."""
    lost: dict[str, Lost]
    """Cells that a format could not read, by path."""


def raw_columns(experiment: Experiment, raw: Raw) -> Columns:
    """Return where columns are read. Raises InputError if one that the experiment names is nowhere."""
    return find_columns(experiment, raw.columns, *(t.column_names if t else () for t in (raw.users, raw.items)))


def side_tables(experiment: Experiment, raw: Raw, columns: Columns) -> SideTables:
    """Return the users and the items table, ready to be joined."""
    users, mended_users, lost_users = _side_table(experiment, raw.users, experiment.user, columns.users)
    items, mended_items, lost_items = _side_table(experiment, raw.items, experiment.item, columns.items)
    return SideTables(users, items, {**mended_users, **mended_items}, {**lost_users, **lost_items})


def _side_table(
    experiment: Experiment, table: pa.Table | None, name: str, names: Mapping[str, str]
) -> tuple[SideTable | None, dict[str, int], dict[str, Lost]]:
    if table is None:
        return None, {}, {}
    key = experiment.column_of(name)
    clean, mended = clean_table(experiment, table, key, f"{experiment.features[name].entity}s", names)
    keys = clean.column(key)
    lost = lost_cells(experiment, formatted_in_table(experiment, names), clean, lambda row: f"{key} {keys[row]}")
    return SideTable.of(clean, key, names), mended, lost
