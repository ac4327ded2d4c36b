"""What logs of the real world hold: columns with any name, numbers of any size, repeats."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.config import parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.preparation.findings import findings
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.schema import FIRST

IDS: dict[str, Any] = {"user": {"kind": "id", "entity": "user"}, "item": {"kind": "id", "entity": "item"}}


def log(num_rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ids = {"user": rng.integers(0, 12, num_rows), "item": rng.integers(0, 9, num_rows)}
    return pd.DataFrame({**ids, "time": np.arange(num_rows), "click": rng.integers(0, 2, num_rows)})


def prepared_of(folder: Path, frame: pd.DataFrame, suffix: str = "parquet", **changes: Any) -> Prepared:
    path = folder / f"log.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
    data = {"source": {"kind": "table", "interactions": str(path)}, "output": str(folder / "out"), "time": "time"}
    data |= {"split": "time"} | changes.pop("data", {})
    tree: dict[str, Any] = {"name": "rough", "data": data, "tasks": {"click": "binary"}}
    return prepare(parse(tree | {"features": IDS | changes.pop("features", {})} | changes, "test"))


def read(prepared: Prepared, part: str) -> pd.DataFrame:
    return pd.concat([pq.read_table(file).to_pandas() for file in (prepared.folder / part).files(".parquet")])


INTERNAL = ["_user", "_item", "_time", "_malformed", "_file", "_row", "reason", "row", "file", "raw.user", "user_key"]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_columns_may_have_the_names_of_internal_ones(tmp_path: Path, suffix: str):
    frame = log().assign(**{name: f"own {name}" for name in INTERNAL})
    frame.loc[3, "click"] = 7
    frame = pd.concat([frame, frame[5:6]])
    features = {f"own{place}": {"kind": "categorical", "column": name} for place, name in enumerate(INTERNAL)}
    prepared = prepared_of(tmp_path, frame, suffix, features=features)
    words = prepared.folder.read_table("vocabulary.parquet").to_pandas()
    for place, name in enumerate(INTERNAL):
        assert words[words.feature == f"own{place}"].value.tolist() == [f"own {name}"]
    assert (read(prepared, "test").user >= FIRST).all(), "all users are known"
    assert read(prepared, RAW_TEST)["_user"].unique().tolist() == ["own _user"]
    bad = read(prepared, "quarantine").set_index("row")
    assert bad.reason.to_dict() == {4: "click is not 0 or 1", 201: "repeats an earlier row"}
    assert bad.loc[4, ["raw.reason", "raw.row", "_time"]].tolist() == ["own reason", "own row", "own _time"]


def test_features_may_have_the_names_of_internal_columns(tmp_path: Path):
    names = [name for name in INTERNAL if "." not in name and name not in ("row", "user_key")]
    frame = log().assign(**dict.fromkeys(names, "x"))
    prepared = prepared_of(tmp_path, frame, features=dict.fromkeys(names, "categorical"))
    assert (read(prepared, "test")[[*names, "user"]] >= FIRST).all(axis=None)


@pytest.mark.parametrize("name", ["row", "user_key", "user_support"])
def test_a_feature_with_the_name_of_an_encoded_column_is_refused(tmp_path: Path, name: str):
    with pytest.raises(InputError, match=f"features.{name}: expected a name without"):
        prepared_of(tmp_path, log().assign(**{name: 1}), features={name: "numeric"})


def test_the_time_may_be_called_like_the_internal_one(tmp_path: Path):
    prepared = prepared_of(tmp_path, log().rename(columns={"time": "_time"}), data={"time": "_time"})
    assert prepared.schema.num_rows == {"train": 160, "valid": 20, "test": 20}


def shown(prepared: Prepared) -> int:
    return sum(prepared.schema.num_rows.values())


@pytest.mark.parametrize("time", ["time", None], ids=["a day as time", "no time"])
@pytest.mark.parametrize("text", [False, True], ids=["numbers", "texts and lists"])
def test_rows_equal_in_all_columns_are_repeats_and_a_setting_says_otherwise(tmp_path: Path, time, text: bool):
    frame = log(300).assign(time=[number // 100 for number in range(300)])
    if text:
        frame = frame.assign(
            device=np.random.default_rng(1).choice(["ios", "web"], 300), user=frame.user.map("u{}".format)
        )
        tags = frame.device.map({"ios": ["a", "b"], "web": ["a"]})
        frame = frame.assign(tags=tags, vector=[[float(n % 2), 1.0] for n in range(300)])
    key = ["user", "item", "time"] if time else ["user", "item"]
    comparable = frame.map(lambda value: tuple(value) if isinstance(value, list) else value)
    expected = {
        "exact": (~comparable.duplicated()).sum(),
        "first": (~comparable.duplicated(key)).sum(),
        "last": (~comparable.duplicated(key)).sum(),
        "keep": 300,
    }
    assert len({*expected.values()}) == 3
    for wanted, number in expected.items():
        data = {"repeats": wanted, "time": time, "split": {"kind": "random"}}
        prepared = prepared_of(tmp_path, frame, data=data)
        assert shown(prepared) == number, wanted
        assert prepared.quality["bad"] == 300 - number


def test_of_a_click_and_a_purchase_at_one_stamp_none_is_lost(tmp_path: Path):
    frame = pd.concat([log(), log().assign(click=1 - log().click)])
    assert shown(prepared_of(tmp_path, frame)) == 400
    for wanted, first in (("first", log().click), ("last", 1 - log().click)):
        prepared = prepared_of(tmp_path, frame, data={"repeats": wanted})
        shares = sum(prepared.quality["label_share"]["click"].values())
        assert shown(prepared) == 200
        assert shares == 3
        label = pd.concat([read(prepared, split) for split in ("train", "valid", "test")])["click.label"]
        assert label.sum() == first.sum()


@pytest.mark.parametrize(
    "values",
    [
        range(20),
        [f"x{n}" for n in range(20)],
        [[n, 1] for n in range(20)],
        [[str(n)] for n in range(20)],
        pd.date_range("2026-01-01", periods=20),
        [{"a": n} for n in range(20)],
    ],
    ids=["number", "text", "list", "texts", "time", "struct"],
)
def test_rows_that_differ_in_a_column_that_nothing_reads_are_no_repeats(tmp_path: Path, values):
    frame = log(20)
    again = pd.concat([frame, frame])
    assert shown(prepared_of(tmp_path, again)) == 20
    unread = [*values, *values]
    assert shown(prepared_of(tmp_path, again.assign(impression=unread))) == 20
    assert shown(prepared_of(tmp_path, again.assign(impression=[*unread[:20], *unread[1:21]]))) == 40


def test_a_data_set_from_which_an_earlier_version_took_rows_is_prepared_anew_and_stays(tmp_path: Path):
    frame = pd.concat([log(), log()[:1]])
    first = prepared_of(tmp_path, frame)
    quality = dict(first.quality)
    del quality["repeats"]  # as earlier versions wrote it
    first.folder.write_json("quality.json", quality)
    again = prepared_of(tmp_path, frame)
    assert not again.reused
    assert again.folder.location != first.folder.location
    assert first.folder.exists("schema.json")
    assert prepared_of(tmp_path, frame).folder.location == again.folder.location
    alone = prepared_of(tmp_path, log())
    alone.folder.write_json("quality.json", {**quality, "reasons": {}})
    assert prepared_of(tmp_path, log()).reused, "it lacks nothing"


def test_a_column_that_occurs_twice_is_named_if_it_is_read(tmp_path: Path):
    frame = pa.table({**log(), "extra": range(200)})
    frame = frame.append_column("extra", frame["extra"]).append_column("reason", frame["click"])
    frame = frame.set_column(3, "click", pa.array([7, *frame["click"].to_pylist()[1:]]))
    pq.write_table(frame, tmp_path / "two.parquet")
    source = {"kind": "table", "interactions": str(tmp_path / "two.parquet")}
    assert shown(prepared_of(tmp_path, log(), data={"source": source})) == 199
    with pytest.raises(InputError, match=r"features\.extra: expected one column `extra`; the log has several"):
        prepared_of(tmp_path, log(), data={"source": source}, features={"extra": "numeric"})


def test_repeats_are_told_and_do_not_count_as_bad_rows(tmp_path: Path):
    frame = pd.concat([log(), log()[:100]])
    prepared = prepared_of(tmp_path, frame, data={"max_bad_share": 0})
    told = "100 of 300 rows (33.3%) set aside: repeats an earlier row (`data.repeats: keep` keeps them)"
    assert told in findings(prepared.quality)
    frame.iloc[0, frame.columns.get_loc("click")] = 7
    with pytest.raises(InputError, match=r"1 of 300 rows are bad \(0\.3%.*: 1 x click is not 0 or 1; first"):
        prepared_of(tmp_path, frame, data={"max_bad_share": 0})


def test_a_log_of_vectors_without_any_repeat_is_whole(tmp_path: Path):
    frame = log().assign(vector=[[float(n), 1.0] for n in range(200)])
    features = {"vector": {"kind": "vector", "entity": "item", "size": 2}}
    assert shown(prepared_of(tmp_path, frame, features=features, model={"interaction": "concat"})) == 200
