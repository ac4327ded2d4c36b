"""A frame of any library is the same Arrow table."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mtl_ray.errors import InputError
from mtl_ray.values.canonical import plain
from mtl_ray.values.frames import to_arrow

COLUMNS = {"user_id": ["u1", "u2", None], "age": [31, None, 5], "history": [["i1", "i2"], [], None]}


class Foreign:
    """A frame of a library that this package does not know."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "frame",
    [
        pa.table(COLUMNS),
        pa.RecordBatch.from_pydict(COLUMNS),
        pd.DataFrame(COLUMNS),
        pd.DataFrame({**COLUMNS, "history": [np.array(["i1", "i2"]), np.array([], object), None]}, index=[7, 8, 9]),
        Foreign(pa.table(COLUMNS)),
    ],
    ids=["table", "batch", "pandas", "arrays in pandas", "stream"],
)
def test_all_kinds_give_the_same_values(frame: Any):
    found = to_arrow(frame, "log")
    assert {name: plain(found.column(name)).to_pylist() for name in found.column_names} == COLUMNS


def test_values_of_several_types_in_a_pandas_column_are_what_each_is_alone():
    found = to_arrow(pd.DataFrame({"item_id": ["a", 3, None]}), "log")
    assert found.to_pydict() == {"item_id": ["a", "3", None]}


def test_columns_of_one_name_stay_apart_for_those_who_refuse_them():
    assert to_arrow(pd.DataFrame([[1, 2]], columns=["a", "a"]), "log").column_names == ["a", "a"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([1, 2], "users: expected a frame of pandas or polars, or an Arrow table; found list"),
        (pd.DataFrame({"a": [{"b": 1}, "c"]}), "users: expected columns of values or of lists"),
    ],
)
def test_anything_else_is_refused_in_one_line(frame: Any, message: str):
    with pytest.raises(InputError, match=message):
        to_arrow(frame, "users")
