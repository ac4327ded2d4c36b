"""The type of a column over all files of a log, in which each value keeps its meaning."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import pyarrow as pa

from mtl_ray.parquet import is_text
from mtl_ray.values.canonical import flat, plain
from mtl_ray.values.keys import to_keys
from mtl_ray.values.times import is_date

LONGEST_DIGITS = 20
"""Digits of the largest integer of 64 bits."""

_UNITS = ("s", "ms", "us", "ns")


def common_type(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """Return the type that can hold the values of all these types; None if there is none.

    Whole numbers become wider or fractional, dates become timestamps, and what is text in one file is text in all.
    """
    return reduce(lambda a, b: None if a is None else _wider(a, b), types)


def to_type(values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return a column as a wider type. Raises pa.ArrowException if a value does not fit."""
    array = flat(values)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if _is_any_text(kind) and (_is_number(array.type) or pa.types.is_boolean(array.type)):
        return to_keys(array).cast(kind)
    if _is_any_text(kind) and _is_bytes(array.type):
        return plain(array).cast(kind)
    if pa.types.is_timestamp(kind) and pa.types.is_date32(array.type):
        array = array.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(kind) and kind.tz and pa.types.is_timestamp(array.type) and array.type.tz is None:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    return array.cast(kind)


def _wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if pa.types.is_dictionary(a) or pa.types.is_dictionary(b):
        return _wider(*(kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (a, b)))
    if _is_any_text(a) or _is_any_text(b):
        tests = (_is_any_text, _is_number, is_date, _is_bytes, pa.types.is_boolean)
        if not all(any(test(kind) for test in tests) for kind in (a, b)):
            return None
        return pa.large_string() if pa.types.is_large_string(a) or pa.types.is_large_string(b) else pa.string()
    if _is_list(a) and _is_list(b):
        inner = _wider(a.value_type, b.value_type)
        is_large = pa.types.is_large_list(a) or pa.types.is_large_list(b)
        return inner and (pa.large_list if is_large else pa.list_)(inner)
    if is_date(a) and is_date(b):
        unit = max((_unit(kind) for kind in (a, b)), key=_UNITS.index)
        return pa.timestamp(unit, "UTC" if any(getattr(kind, "tz", None) for kind in (a, b)) else None)
    if pa.types.is_boolean(a) or pa.types.is_boolean(b):
        other = b if pa.types.is_boolean(a) else a
        return other if pa.types.is_integer(other) else None
    return _arrows_choice(a, b)


def _arrows_choice(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    decimals = [kind for kind in (a, b) if pa.types.is_decimal(kind)]
    if len(decimals) == 1 and (pa.types.is_integer(a) or pa.types.is_integer(b)):
        return pa.decimal128(38, decimals[0].scale)
    if pa.types.is_integer(a) and pa.types.is_integer(b) and pa.uint64() in (a, b):
        is_signed = pa.types.is_signed_integer(a) or pa.types.is_signed_integer(b)
        return pa.decimal128(LONGEST_DIGITS, 0) if is_signed else pa.uint64()
    schemas = [pa.schema([("column", kind)]) for kind in (a, b)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except pa.ArrowException:
        return None


def _unit(kind: Any) -> str:
    return kind.unit if pa.types.is_timestamp(kind) else "s" if pa.types.is_date32(kind) else "ms"


def _is_any_text(kind: pa.DataType) -> bool:
    return is_text(kind) or pa.types.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return isinstance(kind, pa.UuidType) or any(test(kind) for test in tests)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
