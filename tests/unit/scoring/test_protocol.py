"""Requests as MLflow's server takes them: what is read, and what is said of a bad one."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.errors import InputError
from mtl_ray.scoring import protocol
from mtl_ray.scoring.protocol import PART_ROWS, answer_parts, read_inputs, read_rows, score_together, write_answer
from mtl_ray.scoring.scorer import Scorer, as_column
from mtl_ray.values.keys import to_keys


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


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(Path(__file__).parents[2] / "fixtures/registered_before_rooms/checkpoint")


FIRST = {"user": "u1", "item": "i1"}
NAMES = [f"unknown {number}" for number in range(4000)]
UNKNOWN = {
    "one row with all": {"dataframe_records": [FIRST | dict.fromkeys(NAMES, 1)]},
    "each row with another": {"dataframe_records": [FIRST, *({name: 1} for name in NAMES)]},
    "each row beside ids": {"dataframe_records": [FIRST | {name: 1} for name in NAMES]},
    "nested lists": {"dataframe_records": [FIRST | {"unknown": [[[number]] for number in range(8000)]}]},
    "nested objects": {"dataframe_records": [FIRST | {"unknown": {name: {name: {}} for name in NAMES}}]},
    "columns": {"dataframe_split": {"columns": [*FIRST, *NAMES], "data": [[*FIRST.values(), *NAMES]]}},
    "rows of columns": {
        "dataframe_split": {"columns": [*FIRST, *NAMES[:4]], "data": [["u1", "i1", 1, 2, 3, 4]] * 3000}
    },
    "nested rows": {"dataframe_split": {"columns": [*FIRST, "x"], "data": [["u1", "i1", [[1], {}]]] * 4000}},
}
"""Requests with much that the model does not read."""


@pytest.mark.parametrize("shape", UNKNOWN)
def test_what_a_client_sends_beside_the_models_columns_costs_no_more_than_its_length(scorer, shape: str):
    body = json.dumps(UNKNOWN[shape]).encode()
    tracemalloc.start()
    try:
        found = read_rows(body, scorer.input_columns())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.column_names == ["user", "item"]
    assert found.slice(0, 1).to_pylist() == [FIRST]
    assert peak < 30 * len(body), peak / len(body)


def test_keys_beside_the_form_are_ignored_and_another_form_is_refused_however_long_it_is(scorer):
    beside = {"dataframe_records": [FIRST], **{name: [1] for name in NAMES}}
    assert read_rows(json.dumps(beside).encode(), scorer.input_columns()).to_pylist() == [FIRST]
    with pytest.raises(InputError) as told:
        read_rows(json.dumps({"instances": [FIRST] * 1000, **dict.fromkeys(NAMES)}).encode())
    assert "expected an object with either dataframe_records or dataframe_split; found instances, " in str(told.value)
    assert len(str(told.value)) < 400


def test_a_request_of_too_many_rows_is_refused():
    body = json.dumps({"dataframe_records": [{"a": 1}] * 3}).encode()
    assert len(read_rows(body, max_rows=3)) == 3
    with pytest.raises(InputError, match="dataframe_records: expected at most 2 rows; found 3; send fewer at a time"):
        read_rows(body, max_rows=2)


def record(**cells: object) -> str:
    return json.dumps({"dataframe_records": [{"user": "u1", "item": "i1"}, {"user": "u1", "item": "i1", **cells}]})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[" * 100_000, "expected JSON of rows; found lists or objects that are nested too deeply"),
        (record(age=0).replace(" 0}", f" {'9' * 5000}}}"), "expected JSON; "),
        (record(age=10**400), "row 2: age is not finite"),
        (record(user="\ud83d"), "row 2: user is no valid text; it holds half of a surrogate pair"),
        (record(history=["i1", "\ud83d"]), "row 2: history is no valid text"),
        ('{"\\ud83d": []}', "expected an object with either dataframe_records or dataframe_split; found ?"),
        (record(history=["i1", ["i2"]]), "row 2: history holds an object or nested lists"),
        (record(history=[{"a": 1}]), "row 2: history holds an object or nested lists"),
        (record(user={"a": 1}), "row 2: user holds an object or nested lists"),
        (record(user=["u1"]), "row 2: user is a list, in other rows it is a single value"),
        (record(gender=["M"]), "row 2: gender is a list, not a single value"),
        (record(vector=[1, 2, "a", 4]), "row 2: vector is not a list of numbers"),
        (b"\xff\xfe\x00", "expected JSON; "),
        (b"", "expected JSON; "),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) and not value.startswith(("[", "{")) else "",
)
def test_no_body_raises_anything_but_one_line(scorer, body: str | bytes, message: str):
    with pytest.raises(InputError) as told:
        write_answer(scorer.predict(read_inputs(scorer, body if isinstance(body, bytes) else body.encode())), "1")
    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value).encode()) < 400


@pytest.mark.parametrize("user", [2**63, 2**64 - 1, 2**70, 10**400, -(2**70)], ids=lambda user: f"{len(str(user))}")
@pytest.mark.parametrize("neighbour", ["u1", 1, -1, None])
def test_a_whole_number_of_any_size_is_an_id(scorer, user: int, neighbour: object):
    body = json.loads(record(user=user))
    body["dataframe_records"][0]["user"] = neighbour
    table = read_rows(json.dumps(body).encode())
    assert to_keys(table.column("user"))[1].as_py() == str(user)
    assert len(scorer.inputs(table)["user"]) == 2


def test_requests_get_the_same_predictions_together_alone_and_in_slices(scorer, monkeypatch: pytest.MonkeyPatch):
    ids = [("u1", "i1"), ("u1", "i7"), ("new", "i2"), ("u2", "new")]
    bodies = [[{"user": user, "item": item}] * number for number, (user, item) in enumerate(ids, 1)]
    requests = [read_inputs(scorer, json.dumps({"dataframe_records": rows}).encode()) for rows in bodies]
    together = score_together(scorer, requests)
    monkeypatch.setattr(protocol, "BATCH_ROWS", 2)
    for number, (one, other) in enumerate(zip(together, score_together(scorer, requests), strict=True), 1):
        assert list(one) == list(other) == list(scorer.experiment.tasks)
        for task in one:
            assert len(one[task]) == number
            np.testing.assert_allclose(one[task], other[task], rtol=1e-5)


@pytest.mark.parametrize("num_rows", [1, PART_ROWS, PART_ROWS + 1, 3 * PART_ROWS])
def test_an_answer_in_parts_is_the_whole_answer_and_no_part_is_long(num_rows: int):
    scores = {"rating": np.arange(num_rows) / 7, "category": np.ones((num_rows, 2)) / 3}
    parts = list(answer_parts(scores, 'a "version"'))
    rows = [{"rating": row / 7, "category": [1 / 3, 1 / 3]} for row in range(num_rows)]
    assert b"".join(parts).decode() == json.dumps({"predictions": rows, "model_version": 'a "version"'})
    assert len(parts) == -(-num_rows // PART_ROWS)
    assert max(map(len, parts)) < 100 * PART_ROWS


def test_nothing_of_an_answer_is_written_before_all_predictions_were_looked_at():
    scores = {"rating": np.append(np.ones(3 * PART_ROWS), np.nan)}
    with pytest.raises(InputError, match=f"row {3 * PART_ROWS + 1}: the prediction of rating is not finite"):
        answer_parts(scores, "1")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_holds_no_number_that_json_does_not_have(value: float):
    scores = {"rating": np.array([1.0, 2.0]), "category": np.array([[0.5, 0.5], [0.5, value]])}
    with pytest.raises(InputError, match="row 2: the prediction of category is not finite"):
        write_answer(scores, "1")


def test_a_cell_means_the_same_beside_any_neighbour():
    for neighbour in ("x", 2, 2**70):
        assert as_column([True, neighbour]).cast("string").to_pylist()[0] == to_keys(pa.array([True]))[0].as_py()
        assert to_keys(as_column([7.0, neighbour]))[0].as_py() == "7"
