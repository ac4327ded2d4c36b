"""What is fitted: from training rows with a label alone, and the same however rows lie in partitions."""

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.config import Experiment, override, parse
from mtl_ray.data.preparation.fit import (
    FitStatistics,
    fit_partition,
    fitted_features,
    fitted_tasks,
    refuse_useless_tasks,
    supports,
    vocabularies,
)
from mtl_ray.errors import InputError
from mtl_ray.values.partition import ITEM, NONE, SHOWN, TEST, TIME, TRAIN, USER, VALID, Partition

TREE = {
    "name": "shop",
    "data": {"source": {"kind": "table", "interactions": "log.csv"}, "time": "time"},
    "features": {
        "user": {"kind": "id", "entity": "user"},
        "item": {"kind": "id", "entity": "item"},
        "price": {"kind": "numeric", "entity": "item"},
    },
    "tasks": {
        "rating": {"kind": "regression"},
        "buy": {"kind": "binary", "where": {"click": 1}},
        "mood": {"kind": "multiclass", "where": {"click": 1}},
        "tags": {"kind": "multilabel", "where": {"click": 1}},
        "stars": {"kind": "ordinal"},
        "like": {"kind": "ranking"},
    },
}
EXPERIMENT: Experiment = parse(TREE, "test")
SPLIT = [TRAIN, TRAIN, TRAIN, TRAIN, VALID, TEST, NONE, SHOWN]
RAW = {
    "user": ["u", "u", "v", "w", "x", "y", "u", "u"],
    "item": ["a", "b", "a", "a", "b", "c", "a", "b"],
    "price": [1.0, 3.0, None, 5.0, 7.0, 9.0, 0.0, 0.0],
    "time": list(range(8)),
    "click": [1, 0, 1, 1, 1, 1, 1, 1],
    "rating": [1.0, None, 3.0, 5.0, 100.0, 100.0, 100.0, 100.0],
    "buy": [1, 1, 0, None, 1, 1, 1, 1],
    "mood": ["good", "bad", None, "fair", "bad", "odd", "odd", "odd"],
    "tags": ["x|y", "z", "x", None, "z", "z", "z", "z"],
    "stars": [10.0, 9.0, 9.0, None, 3.0, 3.0, 3.0, 3.0],
    "like": [1, 0, 0, None, 1, 1, 1, 1],
}


def partition(rows: slice = slice(None), **changes: list) -> Partition:
    raw = {name: pa.array(values)[rows] for name, values in {**RAW, **changes}.items()}
    table = pa.table({USER: raw["user"], ITEM: raw["item"], TIME: raw["time"].cast(pa.float64()), **raw})
    split = np.array(SPLIT, np.int8)[rows]
    return Partition(table, split, np.zeros(len(split)), pa.table({"row": [1]}).slice(0, 0), {"lost": 2})


def fit(experiment: Experiment = EXPERIMENT, **changes: list) -> FitStatistics:
    return fit_partition(experiment, partition(**changes))


def test_rows_are_counted_by_split():
    assert fit().num_rows[0].tolist() == [4, 1, 1, 1, 1]


def test_labels_are_those_of_the_population_with_a_value_by_split():
    found = fitted_tasks(EXPERIMENT, fit())
    assert found["rating"].num_labels == {"train": 3, "valid": 1, "test": 1}
    assert found["buy"].num_labels == {"train": 2, "valid": 1, "test": 1}
    assert found["mood"].num_labels == {"train": 2, "valid": 1, "test": 1}
    assert found["tags"].num_labels == {"train": 2, "valid": 1, "test": 1}
    assert found["stars"].num_labels == {"train": 3, "valid": 1, "test": 1}


def test_moments_and_classes_are_those_of_labelled_training_rows():
    found = fitted_tasks(EXPERIMENT, fit())
    assert (found["rating"].mean, found["rating"].std) == pytest.approx((3.0, (8 / 3) ** 0.5))
    assert (found["buy"].mean, found["buy"].std) == (0.5, 0.5)
    assert found["like"].mean == pytest.approx(1 / 3)
    assert found["mood"].classes == ("fair", "good")
    assert found["tags"].classes == ("x", "y")
    assert found["stars"].classes == ("9", "10")  # by number, not by text


def test_features_are_fitted_on_training_rows():
    total = fit()
    found = fitted_features(EXPERIMENT, total, vocabularies(EXPERIMENT, total))
    assert (found["price"].mean, found["price"].std) == pytest.approx((3.0, (8 / 3) ** 0.5))
    words = vocabularies(EXPERIMENT, total)
    assert words["user"].values.to_pylist() == ["u", "v", "w"]
    assert words["item"].values.to_pylist() == ["a", "b"]
    assert "price" not in words
    assert supports(EXPERIMENT, total)["item"].counts.to_pylist() == [3, 1]


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_partitions_add_up_to_the_whole(cut: int):
    first, second = (fit_partition(EXPERIMENT, partition(rows)) for rows in (slice(0, cut), slice(cut, None)))
    whole, total = fit(), first + second
    for name, task in fitted_tasks(EXPERIMENT, whole).items():
        found = fitted_tasks(EXPERIMENT, total)[name]
        assert (found.classes, found.num_labels) == (task.classes, task.num_labels)
        assert (found.mean, found.std) == pytest.approx((task.mean, task.std))
    known = vocabularies(EXPERIMENT, whole)
    assert fitted_features(EXPERIMENT, total, known) == fitted_features(EXPERIMENT, whole, known)
    assert sum(total.num_rows).tolist() == whole.num_rows[0].tolist()
    assert total.issues == {"lost": 4}
    assert total.labels == whole.labels


def test_only_the_first_five_duplicates_are_named():
    parts = [
        FitStatistics(num_duplicates=4, duplicates=list("abcd")),
        FitStatistics(num_duplicates=4, duplicates=list("efgh")),
    ]
    total = parts[0] + parts[1]
    assert (total.num_duplicates, total.duplicates) == (8, list("abcde"))


def test_what_has_one_value_is_named():
    assert fit().constant == []
    found = fit(price=[4.0] * 8, mood=["good"] * 8, stars=[4.0] * 8, user=["u"] * 8)
    assert set(found.constant) == {"price", "mood.label", "stars.label", "user"}


def test_a_label_without_deviation_is_divided_by_one():
    assert fitted_tasks(EXPERIMENT, fit(rating=[4.0] * 8))["rating"].std == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rating": [None] * 4 + [1.0] * 4}, "tasks.rating: expected labels in training rows; found none"),
        ({"click": [0] * 4 + [1] * 4}, r"tasks.buy: expected labels in training rows; .* where {'click': 1}"),
        ({"like": [0] * 4 + [1] * 4}, "tasks.like: expected positives in training rows; found none"),
        ({"buy": [1] * 4 + [0] * 4}, "tasks.buy: expected training labels of two classes .*; found only 1 in 3 labels"),
        ({"buy": [0] * 4 + [1] * 4}, "tasks.buy: expected training labels of two classes .*; found only 0 in 3 labels"),
        ({"mood": ["odd"] * 4 + ["bad"] * 4}, "tasks.mood: .*; found only odd in 3 labels"),
        ({"stars": [2.0] * 4 + [1.0] * 4}, "tasks.stars: .*; found only 2 in 4 labels"),
    ],
)
def test_a_task_that_teaches_nothing_is_refused(changes: dict[str, list], message: str):
    with pytest.raises(InputError, match=message):
        refuse_useless_tasks(EXPERIMENT, fit(**changes))


def test_tasks_that_teach_something_pass_and_so_do_equal_numbers():
    refuse_useless_tasks(EXPERIMENT, fit())
    refuse_useless_tasks(EXPERIMENT, fit(rating=[4.0] * 8, tags=["x"] * 8, like=[1] * 8))


def test_the_label_of_another_column_is_fitted_from_it():
    experiment = override(EXPERIMENT, {"tasks.rating": {"kind": "regression", "column": "stars"}})
    assert fitted_tasks(experiment, fit(experiment))["rating"].mean == pytest.approx(28 / 3)


def test_words_for_nothing_are_no_labels():
    experiment = override(EXPERIMENT, {"data.null_words": ["gone"]})
    found = fitted_tasks(experiment, fit(experiment, rating=["1", "gone", "3", "gone", "1", "1", "1", "1"]))
    assert found["rating"].num_labels["train"] == 2
    assert found["rating"].mean == 2.0
