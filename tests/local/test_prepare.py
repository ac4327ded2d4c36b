"""Raw log to encoded data set: nothing lost, nothing leaked, always the same."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.preparation import parallel
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.schema import FIRST, SPLITS, UNKNOWN
from tests.support import small_experiment

TREE = {
    "name": "shop",
    "data": {
        "source": {"kind": "table", "interactions": "log.csv", "users": "users.csv"},
        "time": "time",
        "split": {"kind": "time", "test_from": 80},
        "max_bad_share": 0.2,
    },
    "features": {
        "user": {"kind": "id", "entity": "user"},
        "item": {"kind": "id", "entity": "item"},
        "city": {"kind": "categorical", "entity": "user"},
        "history": {"kind": "sequence", "of": "item", "max_length": 3},
    },
    "tasks": {"rating": {"kind": "regression", "range": [1, 5]}},
}
HEADER = "user,item,time,rating"


@pytest.fixture
def log() -> list[str]:
    rng = np.random.default_rng(0)
    return [f"u{rng.integers(9)},i{rng.integers(20)},{time},{rng.integers(1, 6)}" for time in range(100)]


def shop(folder: Path, lines: list[str], header: str = HEADER, **changes) -> Experiment:
    (folder / "log.csv").write_text("\n".join([header, *lines]) + "\n")
    users = "user,city\n" + "".join(f"u{i},c{i % 3}\n" for i in range(8))
    (folder / "users.csv").write_text(users)
    tree = {**TREE, "data": {**TREE["data"], "raw": str(folder), "output": str(folder / "out"), **changes}}
    return parse(tree, "test")


def rows(prepared: Prepared, split: str) -> pd.DataFrame:
    tables = [pq.ParquetFile(f).read() for f in (prepared.folder / split).files()]
    return pd.concat([t.to_pandas() for t in tables]).sort_values("row").reset_index(drop=True)


def test_bad_rows_are_set_aside_with_their_place_and_counted(tmp_path: Path, log):
    log[16] = "u1,i1,16,abc"
    log[20] = ",i1,20,3"
    log[30] = "u1,i1,30,9"
    log[40] = "u1,i1,40"
    log[50] = "u1,i1,later,3"
    log[60] = log[59]
    log[70] = "u1,i1,70,inf"
    prepared = prepare(shop(tmp_path, log))
    bad = pd.concat([pq.ParquetFile(f).read().to_pandas() for f in (prepared.folder / "quarantine").files()])
    assert dict(zip(bad.row, bad.reason, strict=True)) == {
        17: "rating is not a number",
        21: "user is null",
        31: "rating is outside [1, 5]",
        41: "malformed line",
        51: "time is not a number",
        61: "repeats an earlier row",
        71: "rating is not finite",
    }
    assert set(bad.file) == {"log.csv"}
    assert bad[bad.row == 17].rating.item() == "abc"
    assert prepared.quality["bad"] == 7
    assert prepared.quality["rows"] == 100
    assert sum(prepared.schema.num_rows.values()) == 93
    assert prepared.quality["unknown_entities"]["user not in the users table"] > 0


@pytest.mark.parametrize(
    ("lines", "header", "changes", "message"),
    [
        (["u1,i1,x,y"] * 5, HEADER, {}, "5 of 5 rows are bad (100.0%; data.max_bad_share allows 20.0%)"),
        ([], HEADER, {}, "empty"),
        (["u1,i1,1,2"], "customer,item,time,rating", {}, "features.user: expected a column `user`"),
        (["u1,i1,1,2"], "user,item,time,stars", {}, "tasks.rating: expected a column `rating`"),
        (["u1,i1,1,2"], HEADER, {"raw": "/nowhere"}, "/nowhere"),
        (["u1,i1,90,2"], HEADER, {}, "data.split: no training rows are left of 1"),
    ],
    ids=["all bad", "empty log", "no user column", "no label column", "no file", "no training rows"],
)
def test_unusable_input_is_refused_in_one_line(tmp_path: Path, lines, header, changes, message):
    with pytest.raises(InputError) as caught:
        prepare(shop(tmp_path, lines, header, **changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    left = [p for p in (tmp_path / "out").glob("*") if not p.name.endswith(".rejected")]
    assert left == []


def test_histories_are_strictly_earlier_interactions_of_the_user(tmp_path: Path, log):
    prepared = prepare(shop(tmp_path, log))
    frame = pd.DataFrame([line.split(",") for line in log], columns=HEADER.split(",")).astype({"time": int})
    raw = pd.concat([pq.ParquetFile(f).read().to_pandas() for f in (prepared.folder / RAW_TEST).files()])
    assert len(raw) == 20
    for row in raw.itertuples():
        past = frame[(frame.user == row.user) & (frame.time < int(row.time))].item.tolist()[-3:]
        assert list(row.history) == past


def test_only_training_rows_are_fitted(tmp_path: Path, log):
    log[85] = "stranger,novelty,85,3"
    prepared = prepare(shop(tmp_path, log))
    words = prepared.folder.read_table("vocabulary.parquet").to_pandas()
    train = pd.DataFrame([line.split(",") for line in log[:80]], columns=HEADER.split(","))
    for name in ("user", "item"):
        known = words[words.feature == name].set_index("value")["count"]
        assert known.to_dict() == train[name].value_counts().to_dict()
    assert prepared.schema.tasks["rating"].mean == pytest.approx(train.rating.astype(float).mean())
    test = rows(prepared, "test")
    new = test[(test.user == UNKNOWN) & (test.item == UNKNOWN)]
    assert new[["user_support", "item_support"]].to_numpy().tolist() == [[0, 0]]
    seen = test[test.item >= FIRST]
    counts = words[words.feature == "item"]["count"].to_numpy()
    assert seen.item_support.tolist() == counts[seen.item - FIRST].tolist()


def test_the_same_input_gives_the_same_data_set_wherever_it_lies(tmp_path: Path, log):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = prepare(shop(tmp_path / "a", log)), prepare(shop(tmp_path / "b", log))
    assert one.schema == two.schema
    assert prepare(shop(tmp_path / "a", log)).reused
    log[3] = "u1,i1,3,1"
    assert prepare(shop(tmp_path / "b", log)).schema.fingerprint != one.schema.fingerprint


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "split",
    [
        {"kind": "time"},
        {"kind": "cold", "valid_users": 0, "test_users": 0, "test_items": 0.3, "shown_items": 2},
    ],
    ids=["histogram", "first of items"],
)
def test_this_process_and_the_cluster_write_the_same_files(local_ray, tmp_path: Path, monkeypatch, log, split):
    log[16], log[60] = "u1,i1,16,abc", log[59]
    made = []
    for limit in (parallel.IN_PROCESS_ROWS, 0):
        monkeypatch.setattr(parallel, "IN_PROCESS_ROWS", limit)
        made.append(prepare(shop(tmp_path, log, split=split, bucket_rows=30, output=str(tmp_path / f"out{limit}"))))
    here, spread = made
    assert not here.reused
    assert not spread.reused
    assert here.schema == spread.schema
    assert here.quality == spread.quality
    assert files_of(Path(here.folder.path)) == files_of(Path(spread.folder.path))


def test_a_small_log_is_prepared_without_ray(tmp_path: Path, log):
    file = tmp_path / "shop.yaml"
    file.write_text(json.dumps(shop(tmp_path, log).model_dump(mode="json", exclude_unset=True)))
    script = (
        f"from mtl_ray.cli.main import main; main(['prepare', '{file}']); import sys; assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, log):
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"^data\.output: this machine cannot write .*/out: "):
        prepare(shop(tmp_path, log))


def test_a_cold_split_holds_out_whole_users_and_items(tmp_path: Path):
    split = {"kind": "cold", "valid_users": 0.1, "test_users": 0.2, "test_items": 0.2, "valid_items": 0.0}
    prepared = prepare(small_experiment(data__output=str(tmp_path), data__split=split))
    frames = {name: rows(prepared, name) for name in SPLITS}
    assert (frames["test"].user_support * frames["test"].item_support == 0).all()
    assert set(frames["train"].user_key).isdisjoint(frames["valid"].user_key)
    assert (frames["train"].user_id >= FIRST).all()
    share = 1 - len(frames["train"]) / sum(map(len, frames.values()))
    assert 0.2 < share < 0.7


def test_row_numbers_count_the_rows_of_each_split(prepared: Prepared):
    for split in SPLITS:
        assert rows(prepared, split).row.tolist() == list(range(prepared.schema.num_rows[split]))
    assert len(prepared.schema.train_offsets) == 4


def test_shares_of_the_time_split_are_kept_and_time_is_cut(prepared: Prepared):
    total = sum(prepared.schema.num_rows.values())
    assert prepared.schema.num_rows["test"] == pytest.approx(0.1 * total, rel=0.02)
    assert prepared.schema.num_rows["valid"] == pytest.approx(0.1 * total, rel=0.02)


@pytest.mark.parametrize("entity", ["user", "item"])
@pytest.mark.parametrize("shown_to", ["history", "training"])
def test_the_first_interactions_of_held_out_entities_are_shown(tmp_path: Path, log, entity, shown_to):
    shown, held_out = 2, {f"test_{entity}s": 0.5}
    cold = {"kind": "cold", "valid_users": 0, "test_users": 0, "test_items": 0, **held_out}
    split = {**cold, f"shown_{entity}s": shown, "shown_to": shown_to}
    before = rows(prepare(shop(tmp_path, log, split=cold)), "test")
    prepared = prepare(shop(tmp_path, log, split=split, bucket_rows=30))  # an item's rows are in several buckets
    raw = pd.concat([pq.ParquetFile(f).read().to_pandas() for f in (prepared.folder / RAW_TEST).files()])
    frame = pd.DataFrame([line.split(",") for line in log], columns=HEADER.split(",")).astype({"time": int})
    tested = frame[frame[entity].isin(raw[entity])]
    expected = tested[tested.groupby(entity).cumcount() >= shown].time.tolist()
    assert sorted(raw.time.astype(int)) == expected
    test = rows(prepared, "test")
    assert len(test) < len(before)
    assert (test[f"{entity}_support"] == (shown if shown_to == "training" else 0)).all()
    if entity == "user":
        for row in raw.itertuples():
            mine = frame[frame.user == row.user]
            assert list(row.history) == mine[mine.time < int(row.time)].item.tolist()[:shown]
    counts = prepared.quality["leakage"][entity]
    assert counts["tested"] == raw[entity].nunique()
    assert (counts["in training rows"] == counts["tested"]) == (shown_to == "training")


@pytest.mark.parametrize("entity", ["user", "item"])
def test_curves_over_shown_interactions_are_of_the_same_rows(tmp_path: Path, log, entity):
    tested, known = [], []
    for shown in (0, 1, 3):
        cold = {"kind": "cold", "valid_users": 0, "test_users": 0, "test_items": 0, f"test_{entity}s": 0.5}
        split = {**cold, f"shown_{entity}s": shown, "evaluated_after": 3, "shown_to": "training"}
        prepared = prepare(shop(tmp_path, log, split=split, bucket_rows=30))
        raw = pd.concat([pq.ParquetFile(f).read().to_pandas() for f in (prepared.folder / RAW_TEST).files()])
        tested.append(sorted(raw.time.astype(int)))
        known.append(set(rows(prepared, "test")[f"{entity}_support"]))
    frame = pd.DataFrame([line.split(",") for line in log], columns=HEADER.split(",")).astype({"time": int})
    mine = frame[frame[entity].isin(raw[entity])]
    assert tested == [mine[mine.groupby(entity).cumcount() >= 3].time.tolist()] * 3
    assert known == [{0}, {1}, {3}]


def test_nothing_that_is_fitted_depends_on_the_labels_of_evaluation_rows(tmp_path: Path, log):
    changed = [line if time < 80 else f"u{time},{line.split(',')[1]},{time},1" for time, line in enumerate(log)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = prepare(shop(tmp_path / "a", log)), prepare(shop(tmp_path / "b", changed))
    assert rows(one, "train").equals(rows(two, "train"))
    words = [p.folder.read_table("vocabulary.parquet") for p in (one, two)]
    assert words[0].equals(words[1])
    assert one.schema.features == two.schema.features
    assert one.schema.tasks["rating"].mean == two.schema.tasks["rating"].mean
    assert two.quality["leakage"]["user"] == {"tested": 20, "in the vocabulary": 0, "in training rows": 0}
