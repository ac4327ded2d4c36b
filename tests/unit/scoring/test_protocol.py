"""Requests as MLflow's server takes them: what is read, and what is said of a bad one."""

import json

import pytest

from mtl_ray.errors import InputError
from mtl_ray.scoring.protocol import read_rows
from mtl_ray.scoring.scorer import as_column


def rows(tree: object) -> list[dict]:
    return read_rows(json.dumps(tree).encode()).to_pylist()


def test_both_forms_mean_the_same_rows():
    expected = [{"user_id": "u1", "age": 3}, {"user_id": "u2", "age": None}]
    assert rows({"dataframe_records": [{"user_id": "u1", "age": 3}, {"user_id": "u2"}]}) == expected
    assert rows({"dataframe_split": {"columns": ["user_id", "age"], "data": [["u1", 3], ["u2", None]]}}) == expected


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "expected an object with either dataframe_records or dataframe_split; found list"),
        ({"inputs": [1]}, "found inputs"),
        ({"dataframe_records": {}}, "dataframe_records: expected a list of objects; found dict"),
        ({"dataframe_records": [{"a": 1}, 2]}, "dataframe_records, row 2: expected an object; found int"),
        ({"dataframe_records": []}, "dataframe_records: expected at least one row; found none"),
        ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split: expected an object with the lists"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [1]]}}, "row 2: expected 2 values; found 1"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "expected different names; found a, a"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_request_is_told_with_its_place(tree: object, message: str):
    with pytest.raises(InputError) as told:
        rows(tree)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_no_json_is_told():
    with pytest.raises(InputError, match="expected JSON; "):
        read_rows(b"user_id=u1")


def test_mixed_texts_and_numbers_are_texts_in_lists_too():
    assert as_column(["a", 1, None, float("nan")]).to_pylist() == ["a", "1", None, None]
    assert as_column([["a", 1], None, []]).to_pylist() == [["a", "1"], None, []]
