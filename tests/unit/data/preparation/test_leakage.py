"""The check for leaks counts, entity by entity, what fitting saw of the test rows."""

from pathlib import Path

import pyarrow as pa
import pytest

from mtl_ray.data.preparation import leakage
from mtl_ray.data.preparation.leakage import leakage_report
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.schema import FIRST, UNKNOWN, USER_KEY
from mtl_ray.storage import Folder
from mtl_ray.values.keys import hash_keys
from mtl_ray.values.vocabulary import VOCABULARY
from tests.support import small_experiment

ITEMS = ["a", "b", "c", "d"]
COLD_USERS = {"kind": "cold"}
COLD_ITEMS = {"kind": "cold", "valid_users": 0, "test_users": 0, "test_items": 0.1}


def data_set(
    folder: Path, train: list[tuple[str, str, list[str]]], tested: list[tuple[str, str]], words=ITEMS
) -> Folder:
    """A data set of rows (user, item, history) and test rows (user, item); two rows a file."""
    root, row = Folder(str(folder)), {item: FIRST + place for place, item in enumerate(words)}
    known = {"user_id": sorted({user for user, _, _ in train}), "item_id": words}
    pairs = [(name, value) for name, values in known.items() for value in values]
    columns = zip(*pairs, strict=True)
    root.write_table(VOCABULARY, pa.table(dict(zip(("feature", "value"), map(list, columns), strict=True))))
    (root / "train").create()
    for place in range(0, len(train), 2):
        users, items, histories = zip(*train[place : place + 2], strict=True)
        table = {
            USER_KEY: hash_keys(pa.array(users)).view("int64"),
            "item_id": pa.array([row.get(item, UNKNOWN) for item in items], pa.int32()),
            "history": pa.array(
                [[row.get(item, UNKNOWN) for item in each] for each in histories], pa.list_(pa.int32())
            ),
        }
        (root / "train").write_table(f"{place}.parquet", pa.table(table))
    if tested:
        (root / RAW_TEST).create()
        for place in range(0, len(tested), 2):
            users, items = zip(*tested[place : place + 2], strict=True)
            (root / RAW_TEST).write_table(f"{place}.parquet", pa.table({"user_id": users, "item_id": items}))
    return root


def report(root: Folder, split: str | dict = "random") -> dict:
    return leakage_report(small_experiment(data__split=split), root, map)


TRAIN = [("u", "a", []), ("u", "b", ["a"]), ("v", "a", ["c", "b"]), ("w", "b", ["a"]), ("w", "a", [])]


@pytest.mark.parametrize("files_at_once", [1, 2, 16])
def test_tested_entities_are_counted_once_by_where_fitting_saw_them(tmp_path: Path, monkeypatch, files_at_once: int):
    monkeypatch.setattr(leakage, "FILES_AT_ONCE", files_at_once)
    tested = [("u", "a"), ("w", "c"), ("x", "d"), ("u", "e"), ("y", "a")]
    assert report(data_set(tmp_path, TRAIN, tested)) == {
        "user": {"tested": 4, "in the vocabulary": 2, "in training rows": 2},
        "item": {
            **{"tested": 4, "in the vocabulary": 3, "in training rows": 1},
            "in histories of training rows": 2,  # a and c
        },
    }


def test_a_user_below_the_frequency_floor_is_still_in_training_rows(tmp_path: Path):
    root = data_set(tmp_path, TRAIN, [("u", "a"), ("v", "a")])
    table = root.read_table(VOCABULARY)
    root.write_table(VOCABULARY, table.filter(pa.array([value != "v" for value in table["value"].to_pylist()])))
    assert report(root)["user"] == {"tested": 2, "in the vocabulary": 1, "in training rows": 2}


def test_unknown_items_of_training_rows_are_not_taken_for_tested_ones(tmp_path: Path):
    root = data_set(tmp_path, [("u", "z", ["z"])], [("v", "y")])
    assert report(root)["item"] == {
        **{"tested": 1, "in the vocabulary": 0, "in training rows": 0, "in histories of training rows": 0},
    }


def test_without_test_rows_nothing_is_tested(tmp_path: Path):
    found = report(data_set(tmp_path, TRAIN, []), COLD_USERS)
    assert {count for counts in found.values() for count in counts.values()} == {0}


@pytest.mark.parametrize(
    ("split", "tested", "message"),
    [
        (COLD_USERS, [("u", "a"), ("x", "a")], "of 2 held-out users, 1 in the vocabulary, 1 in training rows"),
        (COLD_ITEMS, [("u", "d")], "of 1 held-out items, 1 in the vocabulary"),
        ({**COLD_USERS, "test_users": 0, "valid_users": 0.1}, [("u", "a")], "of 1 held-out users"),
        ({**COLD_ITEMS, "test_items": 0, "valid_items": 0.1}, [("u", "d")], "of 1 held-out items"),
    ],
)
def test_a_held_out_entity_that_fitting_saw_is_a_leak(tmp_path: Path, split: dict, tested, message: str):
    with pytest.raises(RuntimeError, match=f"leak: {message}"):
        report(data_set(tmp_path, TRAIN, tested), split)


@pytest.mark.parametrize(
    "split",
    [
        "random",
        {**COLD_USERS, "shown_users": 1, "shown_to": "training"},
        {**COLD_USERS, "test_items": 0.1},  # a test row may have a new user and a known item, or the other way round
    ],
)
def test_where_tested_entities_may_be_known_none_is_a_leak(tmp_path: Path, split):
    assert report(data_set(tmp_path, TRAIN, [("u", "a")]), split)["user"]["in training rows"] == 1


def test_new_users_among_known_items_are_no_leak(tmp_path: Path):
    found = report(data_set(tmp_path, TRAIN, [("x", "a"), ("y", "b")]), COLD_USERS)
    assert found["user"] == {"tested": 2, "in the vocabulary": 0, "in training rows": 0}
    assert found["item"]["in training rows"] == 2
