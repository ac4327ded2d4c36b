"""Sizes that an experiment may not have are told at once, before data are read or a model is built."""

import pytest

from mtl_ray.config import override, parse
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
    with pytest.raises(InputError, match=f"{section}: expected at most {most} of them; found {len(tree[section]):,}"):
        parse(tree, "e.yaml")


def test_more_users_than_the_machine_can_hold_are_refused_at_once():
    source = small_experiment().data.source
    with pytest.raises(InputError, match=r"data.source: 20,000,000,000 users and 100 items need [\d,]+ GiB") as told:
        open_source(source.model_copy(update={"num_users": 20_000_000_000}))
    assert "lower num_users, num_items or rank" in str(told.value)


def test_more_interactions_than_a_list_of_chunks_holds_are_refused():
    with pytest.raises(InputError, match="num_interactions"):
        small_experiment(data__source__num_interactions=10**12)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "inf"])
@pytest.mark.parametrize("path", ["training.optimizer.lr", "tasks.click.weight", "data.split.valid"])
def test_every_number_of_a_file_is_finite(path: str, value):
    with pytest.raises(InputError, match=rf"{path}: input should be .*; found '?{value}"):
        override(small_experiment(), {path: value})


def test_a_name_fits_into_the_name_of_a_folder():
    with pytest.raises(InputError, match="name: string should have at most 100 characters"):
        override(small_experiment(), {"name": "x" * 101})


@pytest.mark.parametrize("section", ["features", "tasks"])
def test_a_feature_and_a_task_have_a_name(section: str):
    entry = {"features": {"kind": "numeric", "column": "age"}, "tasks": {"kind": "binary", "column": "click"}}[section]
    with pytest.raises(InputError, match=rf"{section}\. : expected a name without"):
        parse({**TREE, section: {**TREE[section], " ": entry}}, "e.yaml")
