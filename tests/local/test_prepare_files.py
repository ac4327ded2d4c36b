"""Logs of many files: how they are cut into files does not decide what the model sees."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError


@pytest.fixture
def log() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            **{"user": random.integers(40, size=600), "item": random.integers(30, size=600), "time": range(600)},
            **{"click": random.integers(2, size=600), "rating": random.integers(1, 6, size=600)},
        }
    )


def experiment(folder: Path, split: str | dict = "random", features: dict | None = None) -> Experiment:
    data = {"source": {"kind": "table", "interactions": "log"}, "raw": str(folder), "output": str(folder / "out")}
    ids = {name: {"kind": "id", "entity": name} for name in ("user", "item")}
    tasks = {"click": "binary", "rating": "regression"}
    tree = {"name": "files", "data": {**data, "time": "time", "split": split}, "tasks": tasks}
    return parse({**tree, "features": {**ids, **(features or {})}}, "test")


def write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)


def counts(prepared: Prepared) -> list[int]:
    return [prepared.schema.num_rows[split] for split in ("train", "valid", "test")]


def test_files_of_one_name_in_many_folders_do_not_share_their_draws(tmp_path: Path, log: pd.DataFrame):
    for number in range(100):
        write(log[number * 6 : number * 6 + 6], tmp_path / f"log/dt={number:03d}/part-0.parquet")
    train, valid, test = counts(prepare(experiment(tmp_path)))
    assert 30 < valid < 90
    assert 30 < test < 90
    assert train + valid + test == 600


def test_files_of_different_names_keep_the_draws_they_had(tmp_path: Path, log: pd.DataFrame):
    write(log[:300], tmp_path / "log/a/1.parquet")
    write(log[300:], tmp_path / "log/b/2.parquet")
    prepared = prepare(experiment(tmp_path))
    assert counts(prepared) == [478, 55, 67]  # as when draws depended on the name of the file alone
    assert prepared.schema.content_hash.startswith("670999faaac3")


def test_a_predefined_split_knows_files_of_one_name_by_path_and_by_name(tmp_path: Path, log: pd.DataFrame):
    for number, name in enumerate(("old/part-0.parquet", "new/part-0.parquet", "new/part-1.parquet")):
        write(log[number * 200 : number * 200 + 200], tmp_path / "log" / name)
    split = {"kind": "predefined", "train": ["old/part-0.parquet"], "test": ["new/part-0.parquet", "part-1.parquet"]}
    assert counts(prepare(experiment(tmp_path, split))) == [200, 0, 400]


def test_a_folder_of_dates_is_a_feature(tmp_path: Path, log: pd.DataFrame):
    for day, part in log.groupby(log.time // 200):
        write(part, tmp_path / f"log/day={day}/part.parquet")
    prepared = prepare(experiment(tmp_path, features={"day": {"kind": "categorical", "entity": "context"}}))
    words = prepared.folder.read_table("vocabulary.parquet").to_pandas()
    assert sorted(words[words.feature == "day"].value) == ["0", "1", "2"]


@pytest.mark.parametrize("swapped", [False, True])
def test_types_that_differ_between_files_are_widened_before_anything_is_read(
    tmp_path: Path, log: pd.DataFrame, swapped: bool
):
    first = log[:300].assign(device=None, user=log.user.astype(str).str.zfill(3))
    second = log[300:].assign(rating=log.rating - 0.5, device="tv")
    names = ("b", "a") if swapped else ("a", "b")
    for name, part in zip(names, (first, second), strict=True):
        write(part, tmp_path / f"log/{name}.parquet")
    split = {"kind": "time", "test_from": 500}
    features = {"device": {"kind": "categorical", "entity": "context"}}
    prepared = prepare(experiment(tmp_path, split, features))
    train = pd.concat([first.astype({"user": str}), second.astype({"user": str})])[:500]
    words = prepared.folder.read_table("vocabulary.parquet").to_pandas()
    assert prepared.schema.tasks["rating"].mean == pytest.approx(train.rating.mean())
    assert set(words[words.feature == "user"].value) == set(train.user)
    assert words[words.feature == "device"].value.tolist() == ["tv"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"kind": "random", "valid": 0.001, "test": 0}, "expected valid rows (valid: 0.001), found none (3 train, 0"),
        ({"kind": "random", "valid": 0, "test": 0.001}, "expected test rows (test: 0.001), found none"),
        ({"kind": "time", "test_from": 900}, "expected test rows (test_from: 900"),
        ({"kind": "time", "valid_from": 900, "test_from": 901}, "expected valid rows (valid_from: 900"),
        ({"kind": "predefined", "valid_share": 1e-3, "train": ["log.parquet"]}, "expected valid rows (valid_share: "),
        ({"kind": "cold", "valid_users": 0.01, "test_users": 0}, "expected valid rows (valid_users: 0.01)"),
    ],
)
def test_a_split_that_was_asked_for_and_is_empty_is_an_error(tmp_path: Path, log: pd.DataFrame, split, message: str):
    write(log[:3], tmp_path / "log/log.parquet")
    with pytest.raises(InputError) as caught:
        prepare(experiment(tmp_path, split))
    assert message in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    "split",
    [
        {"kind": "random", "valid": 0, "test": 0},
        {"kind": "time", "test_from": 2},
        {"kind": "predefined", "train": ["log.parquet"]},
    ],
)
def test_a_split_that_was_not_asked_for_may_be_empty(tmp_path: Path, log: pd.DataFrame, split):
    write(log[:3], tmp_path / "log/log.parquet")
    assert json.loads(prepare(experiment(tmp_path, split)).folder.read_text("schema.json"))["num_rows"]["train"] > 1


def test_an_error_names_the_first_of_many_columns(tmp_path: Path, log: pd.DataFrame):
    many = pd.DataFrame(0, index=log.index, columns=[f"c{i}" for i in range(5000)])
    write(pd.concat([log.drop(columns="user"), many], axis=1), tmp_path / "log/log.parquet")
    with pytest.raises(InputError, match=r"column `user`; the log has item, .*, c25 and 4,974 more;"):
        prepare(experiment(tmp_path))
