"""The tables of users and items, and which columns they leave to the log."""

import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.data.preparation.partition import SideTable
from mtl_ray.data.preparation.row_checks import clean_table, log_columns
from mtl_ray.data.sources import Raw


def raw_columns(experiment: Experiment, raw: Raw) -> list[str]:
    """Return the columns to read from the log. Raises InputError if one that the experiment names is nowhere."""
    return log_columns(experiment, raw.columns, *(t.column_names if t else () for t in (raw.users, raw.items)))


def side_tables(experiment: Experiment, raw: Raw) -> tuple[SideTable | None, SideTable | None, dict[str, int]]:
    """Return the users and the items table, ready to be joined, and how often each thing had to be mended in them."""
    users, mended_users = _side_table(experiment, raw.users, experiment.column_of(experiment.user), "users")
    items, mended_items = _side_table(experiment, raw.items, experiment.column_of(experiment.item), "items")
    return users, items, {**mended_users, **mended_items}


def _side_table(
    experiment: Experiment, table: pa.Table | None, key: str, name: str
) -> tuple[SideTable | None, dict[str, int]]:
    if table is None:
        return None, {}
    clean, mended = clean_table(experiment, table, key, name)
    return SideTable.of(clean, key), mended
