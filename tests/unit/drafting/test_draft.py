"""Drafts of experiment files: what is recognised, what is said, and that `check` takes them."""

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.config import override
from mtl_ray.config.yaml_text import read_yaml
from mtl_ray.data.sources import open_source
from mtl_ray.drafting.draft import drafted, init, look_at, name_of
from mtl_ray.drafting.sample import look_at_log
from mtl_ray.errors import InputError
from mtl_ray.workflows.plan import _estimate
from tests.unit.drafting.conftest import events, feedback, items, people, ratings, shuffled, users


def tree(draft: Any) -> dict[str, Any]:
    return read_yaml(draft.text)


def left_out(draft: Any) -> dict[str, str]:
    """Columns that are no inputs, with the reasons."""
    return dict(re.findall(r"^  #   (\w+): (.*)$", draft.text, re.M))


def written(folder: Path, **frames: pd.DataFrame) -> dict[str, str]:
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return {name: str(folder / f"{name}.csv") for name in frames}


@pytest.mark.parametrize("make", [ratings, feedback, people])
def test_a_draft_is_an_experiment_whose_data_can_be_read(make: Any, tmp_path: Path):
    files = written(tmp_path, log=make(), users=users(), items=items())
    tables = {} if make is people else {"users": files["users"], "items": files["items"]}
    draft = drafted(look_at(files["log"], **tables), "small", {})
    experiment = override(draft.experiment, {"data.output": str(tmp_path), "data.cache": str(tmp_path)})
    schema, quality = _estimate(experiment, open_source(experiment))
    assert set(schema.features) == set(experiment.features)
    assert not quality["bad"], quality["reasons"]


@pytest.mark.parametrize("make", [ratings, feedback, events, people])
@pytest.mark.parametrize("seed", [1, 2])
def test_neither_the_order_of_rows_nor_that_of_columns_changes_a_decision(make: Any, seed: int, tmp_path: Path):
    texts = []
    for log, people_table, products in (
        (make(), users(), items()),
        (shuffled(make(), seed), shuffled(users(), seed), shuffled(items(), seed)),
    ):
        files = written(tmp_path, log=log, users=people_table, items=products)
        tables = {} if make is people else {"users": files["users"], "items": files["items"]}
        texts.append(drafted(look_at(files["log"], **tables), "small", {}).text)
    assert texts[0] == texts[1]


def test_ratings_are_drafted_with_time_history_and_scale():
    said = tree(init(ratings(), name="films"))
    assert said["data"] == {"source": "memory", "time": "timestamp", "split": "time"}
    assert said["features"]["history"] == {"kind": "sequence", "of": "item_id", "values": "rating"}
    assert said["tasks"] == {"rating": {"kind": "regression", "range": [1, 5]}}
    assert said["tracking"] == {"register_as": "films"}


def test_feedback_is_a_task_each_and_what_gives_it_away_is_no_input():
    draft = init(feedback())
    said, left = tree(draft), left_out(draft)
    assert list(said["tasks"]) == ["bought", "is_click"]
    assert left["purchase"] == "equals `bought` in every row"
    assert left["basket_value"].startswith("is only there where `bought` is 1")
    assert left["state"].startswith("tells `is_click` nearly alone")
    assert said["features"]["length"] == {"kind": "numeric", "entity": "item"}
    assert said["features"]["device"] == {"kind": "categorical"}
    assert not set(left) & set(said["features"])


def test_events_become_rows_with_a_label_for_each_step(tmp_path: Path):
    files = written(tmp_path, log=events(), users=users(), items=items())
    draft = drafted(look_at(files["log"], files["users"], files["items"]), "shop", {})
    said = tree(draft)
    source = said["data"]["source"]
    assert source == {
        "kind": "events",
        "events": files["log"],
        "users": files["users"],
        "items": files["items"],
        "event": "event_type",
        "unit": ["session_id"],
        "labels": {"purchase": "purchase", "cart": "add_to_cart"},
    }
    assert said["tasks"] == {"purchase": {"kind": "binary"}, "cart": {"kind": "binary"}}
    genders = {"kind": "categorical", "entity": "user", "case": "fold", "map": {"female": "f", "male": "m"}}
    assert said["features"]["gender"] == genders
    born = {"kind": "date", "entity": "user", "measure": "years", "format": ["iso", "%d/%m/%Y"]}
    assert said["features"]["birth_date"] == born
    assert said["features"]["price"] == {"kind": "numeric", "entity": "item", "format": "money"}
    assert said["features"]["path"] == {"kind": "multi_categorical", "entity": "item", "separator": " > "}
    assert said["features"]["tags"] == {"kind": "multi_categorical", "entity": "item"}
    assert set(left_out(draft)) == {"country", "event_type", "session_id"}
    of_frames = tree(init(events(), users(), items()))["data"]["source"]
    assert of_frames == {name: value for name, value in source.items() if name not in ("events", "users", "items")}


def test_days_are_counted_to_a_time_of_the_calendar_alone():
    log = ratings().rename(columns={"timestamp": "t"})
    log["day_before"] = "2026-01-31"
    log.loc[::2, "day_before"] = "2026-01-30"
    known = drafted(look_at(log, users()), "shop", {})
    assert tree(known)["features"]["birth_date"]["kind"] == "date"
    assert left_out(known)["day_before"] == "another time of the row"
    counted = drafted(look_at(log.assign(t=range(len(log))).drop(columns="day_before"), users()), "shop", {})
    assert tree(counted)["data"]["time"] == "t"
    assert left_out(counted)["birth_date"].startswith("a date, and rows have no time of the calendar")


def test_a_row_a_person_gets_the_keys_that_it_lacks_and_a_doubtful_label():
    draft = init(people())
    said = tree(draft)
    assert said["data"] == {"source": "memory", "split": "random", "row_id": "user", "constants": {"item": 0}}
    assert said["features"]["user"] == {"kind": "id", "entity": "user", "embed": False}
    assert said["features"]["age"] == {"kind": "numeric", "entity": "user"}
    assert said["tasks"] == {"income": {"kind": "binary", "positive": ">50K"}}
    assert re.search(r"^  income: .*# \? ", draft.text, re.M)
    assert "# ? " not in init(people(), answers={d.key: d.guess for d in draft.doubts}).text


def test_a_log_of_positives_ranks_and_says_what_is_missing():
    draft = init(ratings().drop(columns="rating").assign(event="purchase"))
    said = tree(draft)
    assert said["data"]["constants"] == {"purchase": 1}
    assert said["tasks"] == {"purchase": {"kind": "ranking"}}
    assert "nothing of what was shown and not taken" in draft.text.replace("\n  #", "")
    assert draft.experiment.main_task == "purchase"


def test_people_without_anything_to_predict_are_refused():
    with pytest.raises(InputError, match=r"expected a column that says what to predict.*call it `label`"):
        init(people().drop(columns="income"))


def test_messy_columns_are_read_or_left_out_with_a_reason():
    log = ratings()
    log["Review Title"] = [f"number {row} was fine" for row in range(len(log))]
    log["age"] = ["unknown" if row % 9 == 0 else str(row % 50 + 18) for row in range(len(log))]
    log["nothing"] = None
    log["site"] = "shop"
    log["fold"] = ["train" if row % 3 else "test" for row in range(len(log))]
    log["address"] = [{"city": "Delft"}] * len(log)
    log["embedding"] = [[0.5 * row, 1.0, -1.0, 0.25] for row in range(len(log))]
    draft = init(pa.Table.from_pandas(log))
    said, left = tree(draft), left_out(draft)
    assert said["features"]["review_title"] == {"kind": "text", "column": "Review Title"}
    assert said["features"]["embedding"] == {"kind": "vector", "size": 4}
    assert said["features"]["age"] == {"kind": "numeric"}
    assert said["data"]["null_words"][-1] == "unknown"
    assert set(left) == {"nothing", "site", "fold", "address"}
    assert draft.experiment.data.null_words[0] == "nan"


def test_the_key_of_a_table_is_the_column_that_joins_best_whatever_its_name():
    log = ratings().rename(columns={"user_id": "who", "item_id": "what"})
    tables = users().rename(columns={"user_id": "who"}), items().rename(columns={"item_id": "what"})
    said = tree(init(log, *tables))
    keys = [name for name, feature in said["features"].items() if feature["kind"] == "id"]
    assert keys == ["who", "what"]
    with pytest.raises(InputError, match=r"`user_id` holds the ids of `who` in the log .*; rename `user_id` to `who`"):
        init(log, users())
    numbers = users().assign(user_id=range(30)), ratings().assign(user_id=ratings().user_id.str[1:].astype(int))
    assert tree(init(numbers[1], numbers[0]))["features"]["user_id"]["entity"] == "user"
    with pytest.raises(InputError, match=r"the table of users: expected a column with the ids of users.*give another"):
        init(log, users().assign(user_id=[f"x{row}" for row in range(30)]))


def test_rows_without_ids_are_allowed_for_and_told():
    log = ratings()
    log.loc[::20, "user_id"] = None
    draft = init(log)
    assert tree(draft)["data"]["max_bad_share"] == 0.08
    assert re.search(r"# \? 5% of the rows lack a user", draft.text)


def test_a_sample_is_from_all_over_a_log_with_its_last_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtl_ray.drafting.sample.ROWS", 2_000)
    monkeypatch.setattr("mtl_ray.drafting.sample.RUN", 100)
    table = pa.table({"user_id": pa.array(range(20_000)), "click": pa.array([0, 1] * 10_000)})
    pq.write_table(table.slice(0, 12_000), tmp_path / "a.parquet", row_group_size=500)
    pq.write_table(table.slice(12_000), tmp_path / "b.parquet", row_group_size=500)
    found = look_at_log(str(tmp_path))
    seen = found.rows.column("user_id").to_pylist()
    assert 2_000 <= len(seen) <= 2_400
    assert not found.is_whole
    assert found.num_rows == 20_000
    assert {row // 1_000 for row in seen} == set(range(20))
    assert {11_999, 19_999} <= set(seen)


def test_decimal_commas_and_separators_are_recognised(tmp_path: Path):
    log = ratings().assign(weight=[f"{row % 90},5" for row in range(600)])
    log.to_csv(tmp_path / "log.csv", index=False, sep=";")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draft = init(tmp_path / "log.csv")
    assert tree(draft)["data"]["source"]["decimal"] == ","
    assert tree(draft)["features"]["weight"] == {"kind": "numeric"}


def test_a_log_without_names_of_columns_is_refused(tmp_path: Path):
    ratings().assign(user_id=range(600), item_id=range(600, 1200)).to_csv(
        tmp_path / "log.csv", index=False, header=False
    )
    with pytest.raises(InputError, match="expected names of columns in the first line"):
        init(str(tmp_path / "log.csv"))


def test_answers_decide_and_only_what_is_in_doubt():
    log = feedback().assign(is_member=lambda frame: (frame.index * 7) % 2)
    draft = init(log)
    assert [doubt.key for doubt in draft.doubts] == ["column.is_member"]
    assert tree(init(log, answers={"column.is_member": "label"}))["tasks"]["is_member"] == {"kind": "binary"}
    assert left_out(init(log, answers={"column.is_member": "neither"}))["is_member"] == "you said so"
    with pytest.raises(InputError, match=r"answers.column.is_member: expected one of input, label, neither"):
        init(log, answers={"column.is_member": "maybe"})
    with pytest.raises(InputError, match=r"answers.colour: expected answers to what is in doubt"):
        init(log, answers={"colour": "red"})


def test_a_draft_is_saved_once_and_shown_as_text(tmp_path: Path):
    draft = init(ratings())
    path = draft.save(tmp_path / "films.yaml")
    assert path.read_text() == draft.text == repr(draft)
    assert draft._repr_html_().startswith("<pre># Drafted by")
    with pytest.raises(InputError, match="found one that is there already"):
        draft.save(path)
    assert draft.save(path, overwrite=True) == path
    with pytest.raises(InputError, match="expected either paths or frames, found both"):
        init(ratings(), users="users.csv")


def test_every_line_fits_and_every_guess_is_marked():
    for log in (ratings(), feedback(), people()):
        draft = init(log)
        assert max(map(len, draft.text.splitlines())) <= 120
        assert draft.text.count("# ? ") >= bool(draft.doubts)


@pytest.mark.parametrize(
    ("log", "name"),
    [("s3://bucket/shop/log.parquet", "log"), ("data/dt=*/x*.csv", "data"), ("a b/ö!.csv", "shop"), (None, "shop")],
)
def test_an_experiment_is_called_after_its_log(log: Any, name: str):
    assert name_of(log) == name
