"""Columns of raw tables."""

from collections.abc import Iterable

import pyarrow as pa

from mtl_ray.errors import InputError
from mtl_ray.values.canonical import is_single, plain
from mtl_ray.values.vectors import as_variable, is_lists


def raw_values(table: pa.Table, column: str, missing: pa.DataType | None = None) -> pa.Array:
    """Return a raw column as a plain one, or nulls of the type `missing` (text by default) if it is not in the table.

    Raises:
        InputError: the column holds structs or maps, which no feature and no task reads.
    """
    if column not in table.column_names:
        return pa.nulls(len(table), missing or pa.string())
    values = as_variable(plain(table.column(column)))
    kind = values.type.value_type if is_lists(values.type) else values.type
    if not is_single(kind) and not is_lists(kind):
        raise InputError(
            f"column `{column}`: expected numbers, texts, times, or lists of them; found {values.type}; give the part "
            "of it that is meant a column of its own"
        )
    return values


def plain_table(table: pa.Table, columns: Iterable[str]) -> pa.Table:
    """Return a table with some of its columns made plain, see `raw_values`; the others are as they were."""
    for column in columns:
        values = raw_values(table, column)
        if values.type != table.schema.field(column).type:
            table = table.set_column(table.column_names.index(column), column, values)
    return table
