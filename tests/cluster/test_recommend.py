"""The best items of a user: the order of `predict`, nothing seen, also for a profile that nobody has."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.cli.main import main
from mtl_ray.errors import InputError
from mtl_ray.inference.recommend import recommend
from mtl_ray.scoring.recommender import Recommender
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.registry import checkpoint_folder

PROFILE = {"age": 33, "gender": "F", "occupation": "lawyer"}


@pytest.fixture(scope="module")
def folder(trained, settings):
    return checkpoint_folder("models:/small/1", settings.tracking.uri)


@pytest.fixture(scope="module")
def recommender(folder) -> Recommender:
    return Recommender(folder, task="rating")


def scores_of_predict(folder, recommender: Recommender, user: dict) -> dict[str, float]:
    items = recommender.items.to_pylist()
    rows = pa.Table.from_pylist([{**user, **item} for item in items])
    return dict(zip(recommender.keys.to_pylist(), Scorer(folder).score(rows)["rating"], strict=True))


@pytest.mark.parametrize(
    "user", [PROFILE, {}, {"user_id": "u1"}, {**PROFILE, "history": ["i1", "i2", "never seen"]}], ids=str
)
def test_items_come_in_the_order_of_the_scores_of_predict(folder, recommender, user):
    found = recommender.recommend(user, k=1000)
    expected = scores_of_predict(folder, recommender, user)
    left = {key: score for key, score in expected.items() if key not in user.get("history", ())}
    assert {item["item_id"]: item["score"] for item in found} == pytest.approx(left, abs=1e-9)
    assert [item["rank"] for item in found] == list(range(1, len(left) + 1))
    assert all(a["score"] >= b["score"] - 1e-9 for a, b in pairwise(found))


def test_the_model_carries_all_items_of_the_table(recommender, trained):
    carried = pq.read_table(f"{trained.prepared.folder.path}/items.parquet")
    assert carried.num_rows == len(recommender.keys) >= 100
    assert {"item_id", "category", "tags", "price"} <= set(carried.column_names)


def test_seen_items_and_those_of_the_history_are_left_out(recommender):
    best = [item["item_id"] for item in recommender.recommend(PROFILE, k=3)]
    again = recommender.recommend(PROFILE, k=3, seen=best[:2])
    assert again[0]["item_id"] == best[2]
    assert not {best[0]} & {item["item_id"] for item in recommender.recommend({**PROFILE, "history": best[:1]}, k=500)}


def test_many_users_get_what_each_alone_gets(folder, recommender, tmp_path):
    users = pd.DataFrame({"user_id": ["u1", "u2", "nobody"], "age": [20, None, 50], "gender": ["F", "M", None]})
    users.to_csv(tmp_path / "users.csv", index=False)
    best = recommender.recommend({"user_id": "u1", "age": 20, "gender": "F"}, k=1)[0]["item_id"]
    pd.DataFrame({"user_id": ["u1", "u2"], "item_id": [best, "i0"]}).to_csv(tmp_path / "seen.csv", index=False)
    done = recommend(
        folder, str(tmp_path / "users.csv"), str(tmp_path / "out"), task="rating", k=5, seen=str(tmp_path / "seen.csv")
    )
    frame = pq.read_table(done.folder.path).to_pandas()
    assert done.num_rows == 3
    assert frame.groupby("user_id").size().to_dict() == {"u1": 5, "u2": 5, "nobody": 5}
    alone = recommender.recommend({"user_id": "u1", "age": 20, "gender": "F"}, k=5, seen=[best])
    mine = frame[frame.user_id == "u1"]
    assert mine.item_id.tolist() == [item["item_id"] for item in alone]
    assert mine.score.to_numpy() == pytest.approx(np.array([item["score"] for item in alone]))


def test_candidates_may_be_given_and_named(folder):
    items = pa.table({"item_id": ["i1", "brand new", "i1"], "price": [1.0, 2.0, 3.0], "title": ["One", "New", "Again"]})
    found = Recommender(folder, items, "rating").recommend(PROFILE)
    assert {item["item_id"]: item["name"] for item in found} == {"i1": "One", "brand new": "New"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", '{"aeg": 3}'], "profile: unknown column `aeg`; did you mean `age`?"),
        (["--profile", '{"age": "old"}'], "profile: age is not a number"),
        (["--profile", '{"history": "i1"}'], "profile: history is not a list"),
        (["--profile", "{age}"], "--profile: expected a JSON object"),
        (["--profile", "[1]"], "--profile: expected a JSON object"),
        (["--profile", "{}", "--task", "tags"], "--task: expected one of click, rating, purchase, gender; found tags"),
        (["--profile", "{}", "--items", "nowhere.csv"], "nowhere.csv"),
        (["--profile", "{}", "--users", "u.csv"], "recommend: expected either --profile or --users"),
        (["--users", "u.csv"], "recommend: expected --output beside --users"),
    ],
)
def test_bad_input_is_refused_in_one_line(folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", str(folder), *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_the_command_prints_and_writes_the_items(folder, capsys, tmp_path):
    main(["recommend", str(folder), "--profile", json.dumps(PROFILE), "--k", "4", "--json", str(tmp_path / "r.json")])
    result = json.loads((tmp_path / "r.json").read_text())
    assert len(result["items"]) == 4
    assert result["items"][0]["item_id"] in capsys.readouterr().out


def test_a_checkpoint_folder_needs_items(trained):
    with pytest.raises(InputError, match="carries no items to choose from; give them with --items"):
        Recommender(trained.checkpoint)
