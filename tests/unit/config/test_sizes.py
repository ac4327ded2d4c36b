"""Sizes that an experiment may not have are told at once, before data are read or a model is built."""

import time

import pytest

from mtl_ray.config import parse
from mtl_ray.data.sources.synthetic import open_source
from mtl_ray.errors import InputError
from tests.support import TREE, small_experiment


@pytest.mark.parametrize(
    ("section", "number", "entry", "most"),
    [
        ("tasks", 10_000, {"kind": "binary", "column": "click"}, "500"),
        ("features", 5_000, {"kind": "numeric", "entity": "user", "column": "age"}, "2,000"),
    ],
)
def test_thousands_of_tasks_or_features_are_refused_at_once(section: str, number: int, entry: dict, most: str):
    tree = TREE | {section: TREE[section] | {f"n{place}": entry for place in range(number)}}
    began = time.monotonic()
    with pytest.raises(InputError, match=f"{section}: expected at most {most} of them; found {len(tree[section]):,}"):
        parse(tree, "e.yaml")
    assert time.monotonic() - began < 5


def test_more_users_than_the_machine_can_hold_are_refused_at_once():
    source = small_experiment().data.source
    with pytest.raises(InputError, match=r"data.source: 20,000,000,000 users and 100 items need [\d,]+ GiB") as told:
        open_source(source.model_copy(update={"num_users": 20_000_000_000}))
    assert "lower num_users, num_items or rank" in str(told.value)


def test_more_interactions_than_a_list_of_chunks_holds_are_refused():
    with pytest.raises(InputError, match="num_interactions"):
        small_experiment(data__source__num_interactions=10**12)
