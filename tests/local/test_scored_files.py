"""A model scores files that are written as its log was."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_ray.config import parse
from mtl_ray.data.prepare import prepare
from mtl_ray.inference.drift import Limits, drift, write_reference
from mtl_ray.inference.predict import predict
from mtl_ray.inference.recommend import load_recommender, read_seen
from mtl_ray.models import build_model, checkpoint
from mtl_ray.storage import Folder
from mtl_ray.values.vocabulary import VOCABULARY

TREE = {
    "name": "scored",
    "data": {"time": "ts", "split": "time"},
    "features": {
        "user": {"kind": "id", "entity": "user"},
        "item": {"kind": "id", "entity": "item"},
        "town": {"kind": "categorical", "entity": "user"},
        "price": {"kind": "numeric", "entity": "item"},
    },
    "tasks": {"click": {"kind": "binary"}},
}
WRITTEN = {"sep": ";", "decimal": ",", "encoding": "latin-1", "quotechar": "'", "index": False}
SOURCE = {"separator": ";", "decimal": ",", "encoding": "latin-1", "quote": "'"}


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user": rng.integers(0, 20, 300).astype(str),
            "item": rng.integers(0, 9, 300).astype(str),
            "ts": np.arange(300),
            "town": rng.choice(["Köln", "Gé;ve", "Malmö"], 300),
            "price": rng.random(300).round(3) + 1,
            "click": rng.integers(0, 2, 300),
        }
    )


@pytest.fixture(scope="module")
def model(log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, of a log with a dialect of its own."""
    folder = tmp_path_factory.mktemp("model")
    log.to_csv(folder / "log.csv", **WRITTEN)
    source = {"kind": "table", "interactions": str(folder / "log.csv"), **SOURCE}
    experiment = parse({**TREE, "data": {**TREE["data"], "source": source, "output": str(folder / "out")}}, "test")
    prepared = prepare(experiment)
    torch.manual_seed(0)
    checkpoint.save(folder / "c", experiment, prepared.schema, build_model(experiment, prepared.schema), {})
    prepared.folder.copy_to(VOCABULARY, folder / "c" / VOCABULARY)
    write_reference(folder / "c", prepared)
    return folder / "c"


def test_predictions_are_those_of_the_rows_as_parquet(log: pd.DataFrame, model: Path, tmp_path: Path):
    log.to_parquet(tmp_path / "rows.parquet")
    log.to_csv(tmp_path / "rows.csv", **WRITTEN)
    scores = [
        Folder(predict(model, str(tmp_path / file), str(tmp_path / f"{file}-out"), []).folder.location)
        for file in ("rows.parquet", "rows.csv")
    ]
    first, second = (
        np.concatenate([s.read_table(p).to_pandas() for p in s.entries() if p.endswith(".parquet")]) for s in scores
    )
    assert len(first) == 300
    assert len(np.unique(first)) > 50
    np.testing.assert_array_equal(first, second)


def test_nothing_drifts_in_the_rows_of_the_training(log: pd.DataFrame, model: Path, tmp_path: Path):
    log[:240].to_csv(tmp_path / "rows.csv", **WRITTEN)
    assert not drift(model, str(tmp_path / "rows.csv"), Limits(0.2, 0.01, 0.01)).drifted


def test_candidates_and_seen_items_are_read_as_the_log_was(log: pd.DataFrame, model: Path, tmp_path: Path):
    items = log.drop_duplicates("item")[["item", "price"]]
    items.to_parquet(tmp_path / "items.parquet")
    items.to_csv(tmp_path / "items.csv", **WRITTEN)
    user = {"user": "3", "town": "Köln"}
    first, second = (load_recommender(model, str(tmp_path / f"items.{kind}"), None) for kind in ("parquet", "csv"))
    assert second.recommend(user, 5, []) == first.recommend(user, 5, [])
    log[["user", "item"]].to_csv(tmp_path / "seen.csv", **WRITTEN)
    found = read_seen(str(tmp_path / "seen.csv"), second).of_one("3")
    assert set(found) == set(log.item[log.user == "3"])
