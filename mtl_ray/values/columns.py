"""Columns of raw tables."""

import pyarrow as pa

from mtl_ray.values.keys import flat
from mtl_ray.values.vectors import as_variable


def raw_values(table: pa.Table, column: str, missing: pa.DataType | None = None) -> pa.Array:
    """Return a raw column, or nulls of the type `missing` (text by default) if the table does not have it."""
    if column not in table.column_names:
        return pa.nulls(len(table), missing or pa.string())
    return as_variable(flat(table.column(column)))
