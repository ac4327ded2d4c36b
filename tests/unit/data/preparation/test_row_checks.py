"""Checks of raw rows: each column by what reads it, the first reason of a row, and what a side table is mended for."""

from typing import Any

import pyarrow as pa
import pytest

from mtl_ray.config import Experiment, override, parse
from mtl_ray.data.preparation.row_checks import bad_inputs, bad_rows, clean_table, is_flag, key_column, keys_of
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.errors import InputError
from mtl_ray.values.canonical import decoded
from mtl_ray.values.partition import ITEM, USER

TREE: dict[str, Any] = {
    "name": "shop",
    "data": {"source": {"kind": "table", "interactions": "log.csv"}, "time": "time"},
    "features": {
        "user": {"kind": "id", "entity": "user", "column": "customer"},
        "item": {"kind": "id", "entity": "item"},
        "price": {"kind": "numeric", "entity": "item"},
    },
    "tasks": {
        "rating": {"kind": "regression", "range": [1, 5], "where": {"shown": 1}},
        "plays": "count",
        "buy": "binary",
        "mood": {"kind": "binary", "positive": "good"},
        "genre": "multiclass",
        "like": "ranking",
        "stars": {"kind": "ranking", "relevant": 4},
    },
}
EXPERIMENT: Experiment = parse(TREE, "test")
GOOD = {
    **{"customer": "u", "item": "i", "time": "3", "price": "2.5", "rating": "4", "shown": "1", "plays": "0"},
    **{"buy": "1", "mood": "bad", "genre": "war", "like": "no", "stars": "5"},
}


def reasons(*changes: dict[str, Any], experiment: Experiment = EXPERIMENT, joined: tuple[str, ...] = ()) -> list:
    rows = [{**GOOD, **change} for change in changes]
    table = pa.table({name: [row.get(name) for row in rows] for name in {name: None for row in rows for name in row}})
    return bad_rows(experiment, table, keys_of(experiment, table), frozenset(joined)).to_pylist()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"customer": None}, "customer is null"),
        ({"item": " "}, "item is null"),
        ({"time": "soon"}, "time is not a number"),
        ({"time": None}, "time is null"),
        ({"time": "nan"}, "time is null"),
        ({"time": "inf"}, "time is not finite"),
        ({"time": "2024-05-01"}, None),
        ({"price": "cheap"}, "price is not a number"),
        ({"price": None}, None),
        ({"rating": "high"}, "rating is not a number"),
        ({"rating": "0.99"}, "rating is outside [1, 5]"),
        ({"rating": "1"}, None),
        ({"rating": "5"}, None),
        ({"rating": "5.01"}, "rating is outside [1, 5]"),
        ({"rating": "1e30"}, "rating is beyond 1.8e+19"),
        ({"rating": None}, None),
        ({"plays": "-0.5"}, "plays is negative"),
        ({"plays": "0.5"}, None),
        ({"buy": "2"}, "buy is not 0 or 1"),
        ({"buy": "yes"}, None),
        ({"buy": None}, None),
        ({"mood": "whatever"}, None),
        ({"genre": "whatever"}, None),
        ({"like": "0.5"}, "like is not 0 or 1"),
        ({"stars": "many"}, "stars is not a number"),
        ({"stars": "4.5"}, None),
        ({MALFORMED: "a,b"}, "malformed line"),
    ],
    ids=str,
)
def test_a_cell_is_checked_by_what_reads_it(change: dict[str, Any], reason: str | None):
    assert reasons({}, change, {}) == [None, reason, None]


def test_a_row_has_the_first_reason_and_others_keep_theirs():
    found = reasons({"customer": None, "rating": "9"}, {"item": None}, {"rating": "9", "buy": "2"}, {})
    assert found == ["customer is null", "item is null", "rating is outside [1, 5]", None]


def test_without_a_time_no_row_needs_one():
    assert reasons({"time": None}, experiment=override(EXPERIMENT, {"data.time": None})) == [None]


def test_a_feature_of_another_table_is_not_looked_for_in_the_log():
    assert reasons({"price": "cheap"}, joined=("price",)) == [None]


def test_a_label_that_is_not_in_the_log_is_not_checked():
    table = pa.table({name: [value] for name, value in GOOD.items() if name not in ("rating", "plays", "buy", "genre")})
    assert bad_rows(EXPERIMENT, table, keys_of(EXPERIMENT, table)).to_pylist() == [None]


@pytest.mark.parametrize("column", ["shown", "mood", "genre", "buy"])
def test_a_list_where_one_value_is_compared_is_bad(column: str):
    table = pa.table({name: [["1"]] if name == column else [value] for name, value in GOOD.items()})
    found = bad_rows(EXPERIMENT, table, keys_of(EXPERIMENT, table)).to_pylist()
    assert found == [f"{column} is a list, not a single value"]


def test_a_list_in_the_column_of_the_split_is_bad():
    split = {"kind": "predefined", "column": "part"}
    experiment = override(EXPERIMENT, {"data.split": split})
    assert reasons({"part": ["train"]}, experiment=experiment) == ["part is a list, not a single value"]
    assert reasons({"part": "train"}, experiment=experiment) == [None]
    assert reasons({"part": ["train"]}) == [None]


def test_keys_are_those_of_the_columns_of_user_and_item():
    table = pa.table({"customer": [1.0, None], "item": ["x", "True"], "user": ["no", "no"]})
    keys = keys_of(EXPERIMENT, table)
    assert (keys[USER].to_pylist(), keys[ITEM].to_pylist()) == (["1", None], ["x", "1"])
    with pytest.raises(InputError, match="the log: expected one id in each row of `customer`; found list"):
        key_column(pa.table({"customer": [["a"]]}), "customer", "the log")


def test_a_request_may_lack_ids_and_columns():
    table = pa.table({"customer": pa.array([None, "u"], pa.string()), "price": ["cheap", "1"]})
    assert bad_inputs(EXPERIMENT, table).to_pylist() == ["price is not a number", None]
    assert bad_inputs(EXPERIMENT, pa.table({"item": ["a"]})).to_pylist() == [None]
    assert bad_inputs(EXPERIMENT, pa.table({"item": ["a"], MALFORMED: ["a,b"]})).to_pylist() == ["malformed line"]


@pytest.mark.parametrize(
    ("task", "flag"),
    [("buy", True), ("mood", False), ("like", True), ("stars", False), ("rating", False), ("genre", False)],
)
def test_labels_of_0_and_1_are_those_without_a_positive_value_or_threshold(task: str, flag: bool):
    assert is_flag(EXPERIMENT.tasks[task]) == flag


def test_a_side_table_has_each_key_once_and_numbers_where_numbers_are_read():
    table = pa.table(
        {
            "item": ["a", None, "b", "a", "c", "b"],
            "price": ["1", "2", "cheap", "9", "inf", "3"],
            "rating": ["1", "x", "x", "1", "2", "3"],
            "stars": ["x", "1", "2", "3", "4", "5"],
            "like": ["yes", "1", "perhaps", "1", "0", "1"],
            "title": list("tuvwxy"),
        }
    )
    clean, mended = clean_table(EXPERIMENT, table, "item", "items")
    assert mended == {
        **{"items.item is null": 1, "items.item is repeated": 2, "items.price is not a finite number": 2},
        **{"items.rating is not a finite number": 1, "items.stars is not a finite number": 1},
        **{"items.like is not 0 or 1": 1},
    }
    rows = {name: decoded(clean[name].combine_chunks()).to_pylist() for name in clean.column_names}
    assert rows == {
        **{"item": ["a", "b", "c"], "price": [1.0, None, None], "rating": [1.0, None, 2.0]},
        **{"stars": [None, 2.0, 4.0], "like": ["yes", None, "0"], "title": ["t", "v", "x"]},
    }
    assert pa.types.is_dictionary(clean.schema.field("title").type)


def test_a_sound_side_table_is_as_it_was():
    clean, mended = clean_table(EXPERIMENT, pa.table({"item": ["a", "b"], "price": [1.0, None]}), "item", "items")
    assert (clean["price"].to_pylist(), mended) == ([1.0, None], {})


def test_a_side_table_without_its_key_is_refused():
    with pytest.raises(InputError, match="items table: expected the key column `item`; found price"):
        clean_table(EXPERIMENT, pa.table({"price": [1.0]}), "item", "items")
