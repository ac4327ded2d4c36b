"""The tables of users and items, ready to be joined."""

from collections.abc import Mapping

import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.data.preparation.columns import Columns, find_columns
from mtl_ray.data.preparation.partition import SideTable
from mtl_ray.data.preparation.row_checks import clean_table
from mtl_ray.data.sources import Raw


def raw_columns(experiment: Experiment, raw: Raw) -> Columns:
    """Return where columns are read. Raises InputError if one that the experiment names is nowhere."""
    return find_columns(experiment, raw.columns, *(t.column_names if t else () for t in (raw.users, raw.items)))


def side_tables(
    experiment: Experiment, raw: Raw, columns: Columns
) -> tuple[SideTable | None, SideTable | None, dict[str, int]]:
    """Return the users and the items table, ready to be joined, and how often each thing had to be mended in them."""
    users, mended_users = _side_table(experiment, raw.users, experiment.user, columns.users)
    items, mended_items = _side_table(experiment, raw.items, experiment.item, columns.items)
    return users, items, {**mended_users, **mended_items}


def _side_table(
    experiment: Experiment, table: pa.Table | None, name: str, names: Mapping[str, str]
) -> tuple[SideTable | None, dict[str, int]]:
    if table is None:
        return None, {}
    key = experiment.column_of(name)
    clean, mended = clean_table(experiment, table, key, f"{experiment.features[name].entity}s", names)
    return SideTable.of(clean, key, names), mended
