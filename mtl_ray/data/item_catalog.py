"""The items that a trained model can recommend, as raw rows."""

import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.feature_base import Entity, column_of, key_of
from mtl_ray.data.preparation.partition import SideTable
from mtl_ray.values.keys import decoded, flat
from mtl_ray.values.partition import ITEM
from mtl_ray.values.vocabulary import Vocabulary

ITEMS = "items.parquet"
"""File of a data set, and of a registered model, with one raw row an item."""


def items_of(
    experiment: Experiment, table: SideTable | None, known: Vocabulary, audiences: pa.Table | None = None
) -> pa.Table | None:
    """Return all rows of the items table, then the keys of items that only training rows have.

    Args:
        experiment: its features are those of items.
        table: the items table.
        known: the items of training rows.
        audiences: the audience that each item ends with, see `audiences_of_items`; another has null for none.

    Returns:
        None if an attribute of items is read from the log: then no table describes the items.
    """
    items = described_rows(experiment, "item", table, known)
    if items is None or audiences is None:
        return items
    keys = items.column(experiment.column_of(experiment.item))
    lists = audiences.take(pc.index_in(keys, value_set=flat(audiences.column(ITEM)))).drop_columns([ITEM])
    columns = {name: table.column(name) for table in (items, lists) for name in table.column_names}
    return pa.table(columns)


def described_rows(
    experiment: Experiment, entity: Entity, table: SideTable | None, known: Vocabulary
) -> pa.Table | None:
    """Return all rows of the table of users or of items, then the keys that only training rows have; see `items_of`."""
    features = experiment.features
    key = column_of(features, key_of(features, entity))
    own = {name: f.raw_column(name, features) for name, f in features.items() if f.entity == entity}
    columns = {column for column in own.values() if column is not None}
    if columns - {key} - set(table.table.column_names if table else ()):
        return None
    if table is None:
        return pa.table({key: known.values})
    missing = known.values.filter(pc.invert(pc.is_in(known.values, value_set=table.keys)))
    rows = table.table.slice(0, len(table.keys))
    plain = {name: decoded(flat(rows.column(name))) for name in rows.column_names}
    tables = [pa.table({key: table.keys, **plain}), pa.table({key: missing})]
    return pa.concat_tables(tables, promote_options="default")
