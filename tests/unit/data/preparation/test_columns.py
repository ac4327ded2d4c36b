"""Each column is looked for in the table of its entity first; what is nowhere, or twice, is named."""

from typing import Any

import pytest

from mtl_ray.config import parse
from mtl_ray.data.preparation.columns import find_columns, shadowed
from mtl_ray.errors import InputError

TREE: dict[str, Any] = {
    "name": "shop",
    "data": {"source": {"kind": "table", "interactions": "log.csv"}, "time": "time"},
    "features": {
        "user": {"kind": "id", "entity": "user"},
        "item": {"kind": "id", "entity": "item"},
        "age": {"kind": "numeric", "entity": "user"},
        "price": {"kind": "numeric", "entity": "item"},
        "hour": {"kind": "numeric", "entity": "context"},
    },
    "tasks": {"buy": {"kind": "binary", "where": {"age": 3}}},
}


def columns(log: str, users: str = "", items: str = "", tree: dict[str, Any] = TREE):
    return find_columns(parse(tree, "test"), log.split(), users.split(), items.split())


def test_an_attribute_is_read_from_the_table_of_its_entity_before_the_log():
    found = columns("user item time buy hour age price", "user age city", "item price color")
    assert found.log == ("user", "item", "time", "hour", "buy")
    assert found.users == {"age": "age", "city": "city"}
    assert found.items == {"price": "price", "color": "color"}
    assert found.joined == {"age", "price"}


def test_an_attribute_that_its_table_has_not_is_read_from_the_log_or_the_other_table():
    found = columns("user item time buy hour age", "user price", "item")
    assert found.log == ("user", "item", "time", "age", "hour", "buy")
    assert (found.users, found.items, found.joined) == ({"price": "price"}, {}, {"price"})
    assert columns("user item time buy age price", "user hour").users == {"hour": "hour"}


def test_what_nothing_reads_goes_along_from_tables_alone_unless_its_name_is_taken():
    found = columns("user item time buy hour age price note", "user city hour", "item city item2 user")
    assert "note" not in found.log
    assert found.users == {"city": "city"}
    assert found.items == {"item2": "item2"}


@pytest.mark.parametrize(
    ("log", "users", "items", "message"),
    [
        ("user time buy hour age price", "", "item", "features.item: expected a column `item`; the log has user, time"),
        ("user item buy hour age price", "user time", "", "data.time: expected a column `time`; the log has"),
        ("user item time buy age price", "user", "item", "features.hour: .*; users has user; items has item"),
        ("user item time hour age price", "", "", "tasks.buy: expected a column `buy`"),
        (
            "user item time buy hour age price age",
            "",
            "",
            "features.age: expected one column `age`; the log has several",
        ),
        (
            "user item time buy hour age price",
            "user x x age age",
            "",
            "features.age: .*; users has several of that name",
        ),
    ],
)
def test_a_column_that_is_nowhere_or_twice_is_named(log: str, users: str, items: str, message: str):
    with pytest.raises(InputError, match=message):
        columns(log, users, items)


def test_features_in_two_places_are_named():
    experiment = parse(TREE, "test")
    assert shadowed(experiment, ["user", "age", "price"], ["user", "age", "price"], ["item", "price"]) == [
        "age",
        "price",
    ]
    assert shadowed(experiment, ["user", "item", "hour"], ["user", "age"], ["item", "price", "hour"]) == []
    assert shadowed(experiment, ["user"], ["user", "price"], ["item", "price"]) == ["price"]
