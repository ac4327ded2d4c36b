"""Values that the settings name are looked for in their columns, and what is found instead is said."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from mtl_ray.config import Experiment, parse
from mtl_ray.data.preparation.declared_values import Occurrences, declared_values
from mtl_ray.errors import InputError

TREE: dict[str, Any] = {
    "name": "shop",
    "data": {
        "source": {"kind": "table", "interactions": "log.csv"},
        "split": {"kind": "predefined", "column": "part", "train": ["old", "older"]},
    },
    "features": {"user": {"kind": "id", "entity": "user"}, "item": {"kind": "id", "entity": "item"}},
    "tasks": {
        "mood": {"kind": "binary", "positive": "good", "column": "state"},
        "buy": {"kind": "binary", "where": {"click": [1, 2], "day": "monday"}},
    },
}
EXPERIMENT: Experiment = parse(TREE, "test")


def with_data(**data: Any) -> Experiment:
    return parse({**TREE, "data": {**TREE["data"], **data}}, "test")


def log(**changes: list) -> pa.Table:
    whole = {"part": ["old", "older"], "state": ["good", "bad"], "click": ["1", "2.0"], "day": ["monday", None]}
    return pa.table({**whole, **changes})


def test_every_value_that_a_setting_names_is_declared():
    assert [(one.path, one.column, one.values) for one in declared_values(EXPERIMENT)] == [
        ("tasks.mood.positive", "state", ("good",)),
        ("tasks.buy.where.click", "click", (1,)),
        ("tasks.buy.where.click", "click", (2,)),
        ("tasks.buy.where.day", "day", ("monday",)),
        ("data.split.train", "part", ("old",)),
        ("data.split.train", "part", ("older",)),
    ]


def test_names_of_a_split_that_are_the_default_need_not_occur():
    paths = [
        one.path for one in declared_values(with_data(split={**TREE["data"]["split"], "test": ["new"], "shown": ["s"]}))
    ]
    assert paths[4:] == ["data.split.train", "data.split.train", "data.split.test", "data.split.shown"]
    shipped = with_data(source="movielens", split={**TREE["data"]["split"], "valid": ["a", "b"]})
    assert [(one.path, one.values) for one in declared_values(shipped)][4:] == [
        ("data.split.train", ("old", "older")),
        ("data.split.valid", ("a", "b")),
    ]


def test_values_that_occur_are_found_and_pass():
    found = Occurrences.of(EXPERIMENT, log())
    assert found.found == set(declared_values(EXPERIMENT))
    assert found.examples == {}
    found.refuse_absent(EXPERIMENT, ["log.csv"])


def test_partitions_add_up():
    first, second = (Occurrences.of(EXPERIMENT, log().slice(place, 1)) for place in (0, 1))
    assert first.found != second.found
    assert (first + second).found == set(declared_values(EXPERIMENT))
    absent = Occurrences.of(EXPERIMENT, log(state=["bad", "odd"])) + Occurrences.of(
        EXPERIMENT, log(state=["odd", None])
    )
    assert absent.examples["state"] == {"odd": 2, "bad": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"state": ["bad", "bad"]},
            r"tasks\.mood\.positive: .* `state`; 'good' is in no row; the column has bad \(2\)",
        ),
        ({"click": ["1", "3"]}, r"tasks\.buy\.where\.click: .*; 2 is in no row; the column has 1 \(1\), 3 \(1\)"),
        ({"day": pa.nulls(2)}, r"tasks\.buy\.where\.day: .* the column has no value at all"),
        ({"part": ["old", "x"]}, r"data\.split\.train: .*; 'older' is in no row"),
    ],
)
def test_a_value_that_occurs_nowhere_is_refused_with_what_does(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        Occurrences.of(EXPERIMENT, log(**changes)).refuse_absent(EXPERIMENT, [])


def test_the_ten_most_frequent_values_are_shown():
    values = [f"v{number:02d}" for number in range(12) for _ in range(1 + number // 6)]
    table = pa.table({"part": ["old"] * 18, "state": values, "click": ["1"] * 18, "day": ["monday"] * 18})
    found = Occurrences.of(EXPERIMENT, table).examples["state"]
    assert list(found.items()) == [(f"v{n:02d}", 2) for n in range(6, 12)] + [(f"v{n:02d}", 1) for n in range(4)]
    assert isinstance(found, Counter)


@pytest.mark.parametrize(
    ("train", "refused"), [(["a.csv"], False), (["x/a.csv"], False), (["a"], True), (["a.csv", "c.csv"], True)]
)
def test_files_that_a_split_names_are_those_of_the_log(train: list[str], refused: bool):
    experiment = with_data(split={"kind": "predefined", "train": train})
    found = Occurrences.of(experiment, log())
    if not refused:
        found.refuse_absent(experiment, ["x/b.csv", "x/a.csv"])
        return
    with pytest.raises(
        InputError, match=r"data\.split\.train: expected the name of a file .* not of x/a\.csv, x/b\.csv"
    ):
        found.refuse_absent(experiment, ["x/b.csv", "x/a.csv", "x/b.csv"])
