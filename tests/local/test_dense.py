"""Vectors and images from a user's own files to predictions: checked, encoded, learned from, scored raw."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config import Experiment, override, parse
from mtl_ray.config.data import ProfilesSourceConfig
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Shard, read_directly
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.data.sources import profiles
from mtl_ray.models import checkpoint
from mtl_ray.schema import ROW
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.registry import example_of, signature_of
from mtl_ray.training.state import state_of
from mtl_ray.training.trainer import Trainer

VECTOR = {"kind": "vector", "entity": "item", "size": 20}
IMAGE = {"kind": "image", "entity": "item", "shape": [32, 32, 3], "dim": 16, "encoder": {"channels": [4, 8]}}


def experiment_of(folder: Path, features: dict[str, Any], source: dict[str, Any]) -> Experiment:
    tree = {
        "name": "dense",
        "data": {"source": source, "raw": str(folder), "output": str(folder / "out"), "split": "random"},
        "features": {
            "user_id": {"kind": "id", "entity": "user", "embed": False},
            "profile_id": {"kind": "id", "entity": "item", "embed": False},
            **features,
        },
        "tasks": {"age": "regression", "gender": {"kind": "binary", "positive": "F"}, "occupation": "multiclass"},
        "model": {"encoder": {"hidden": []}, "tower": {"hidden": []}},
        "training": {"epochs": 2, "batch_size": 64, "optimizer": {"lr": 0.01}},
    }
    return parse(tree, "test")


def people(content: str, number: int) -> pa.Table:
    source = ProfilesSourceConfig.model_validate({"content": content, "num_profiles": number, "vector_size": 20})
    return pa.concat_tables([table for chunk in profiles.open_source(source).chunks for _, table in chunk.read()])


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def trained(experiment: Experiment, prepared: Prepared, folder: Path) -> tuple[Scorer, dict[str, float]]:
    """The scorer of a checkpoint after all epochs, and its test metrics."""
    torch.manual_seed(0)
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    train, test = (
        Shard(prepared.folder, prepared.schema, split, 0, 1, 1 << 30, read_directly) for split in ("train", "test")
    )
    losses = [trainer.epoch(train)["train/loss"] for _ in range(experiment.training.epochs)]
    assert losses[-1] < losses[0]
    checkpoint.save(folder, experiment, prepared.schema, trainer.evaluated, state_of(trainer))
    prepared.folder.copy_to("vocabulary.parquet", folder / "vocabulary.parquet")
    scorer = Scorer(folder)
    raw = pa.concat_tables(
        prepared.folder.read_table(f"{RAW_TEST}/{n:05d}.parquet") for n in range(num_buckets(prepared))
    )
    scores = scorer.score(raw)
    for batch in test.evaluation_batches(1 << 20):
        rows = batch[ROW].numpy()
        for task, values in trainer.evaluated.eval().predict(batch).items():
            np.testing.assert_allclose(scores[task][rows], values.double().numpy(), rtol=1e-5, atol=1e-5)
    metrics = trainer.evaluate(test)
    errors = scores["age"] - np.asarray(raw["age"])
    assert metrics["test/age/rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    return scorer, metrics


def num_buckets(prepared: Prepared) -> int:
    return len(prepared.schema.train_offsets) - 1


def test_vectors(tmp_path: Path):
    table = people("vector", 1500)
    vectors = table["vector"].to_pylist()
    vectors[10], vectors[20], vectors[30][3], vectors[40][0] = vectors[10][:19], None, None, float("nan")
    pq.write_table(replaced(table, "vector", pa.array(vectors, pa.list_(pa.float64()))), tmp_path / "log.parquet")
    experiment = experiment_of(tmp_path, {"vector": VECTOR}, {"kind": "table", "interactions": "log.parquet"})
    experiment = override(experiment, {"data.bucket_rows": 500})
    prepared = prepare(experiment)
    bad = pd.concat([pq.ParquetFile(f).read().to_pandas() for f in (prepared.folder / "quarantine").files()])
    assert dict(zip(bad.row, bad.reason, strict=True)) == {
        11: "vector has not 20 numbers",
        31: "vector holds a number that is null or not finite",
        41: "vector holds a number that is null or not finite",
    }
    assert num_buckets(prepared) > 1
    assert sum(prepared.schema.num_rows.values()) == 1497
    assert prepare(override(experiment, {"features.vector.encoder": {"hidden": [8]}})).reused
    scorer, metrics = trained(experiment, prepared, tmp_path / "checkpoint")
    assert metrics["test/gender/auc"] > 0.75
    odd = pa.table({"user_id": ["a", "b", "c"], "profile_id": [1, 2, 3], "vector": [None, vectors[0], vectors[30]]})
    for scores in (scorer.score(odd), scorer.score(odd.drop_columns(["vector"]))):
        assert all(np.isfinite(values).all() for values in scores.values())
    with pytest.raises(ValueError, match="vector: expected lists of 20 numbers"):
        scorer.score(replaced(odd, "vector", pa.array([[1.0]] * 3)))


def test_vectors_of_an_items_table_and_rows_that_differ_in_nothing_else(tmp_path: Path):
    table = people("vector", 300)
    items = table.select(["profile_id", "vector"]).slice(20)  # the others are unknown
    pq.write_table(
        replaced(items, "vector", items["vector"].combine_chunks().cast(pa.list_(pa.float32(), 20))),
        tmp_path / "items.parquet",
    )
    log = table.drop_columns(["timestamp"]).rename_columns(
        [{"vector": "own"}.get(name, name) for name in table.column_names if name != "timestamp"]
    )
    other = replaced(log.slice(0, 2), "own", log["own"].slice(2, 2))
    pq.write_table(pa.concat_tables([log, other, log.slice(7, 1)]), tmp_path / "log.parquet")
    source = {"kind": "table", "interactions": "log.parquet", "items": "items.parquet"}
    features = {"vector": VECTOR, "own": {**VECTOR, "entity": "user"}}
    experiment = override(experiment_of(tmp_path, features, source), {"data.bucket_rows": 100_000})
    prepared = prepare(experiment)
    assert prepared.quality["unknown_entities"] == {"item not in the items table": 22}
    raw = prepared.folder.read_table(f"{RAW_TEST}/00000.parquet")
    assert raw["vector"].null_count
    assert prepared.quality["reasons"] == {"repeats an earlier row": 1}
    assert sum(prepared.schema.num_rows.values()) == 302


def test_images_of_fixed_size_lists(tmp_path: Path):
    table = people("image", 400)
    fixed = table["photo"].combine_chunks().cast(pa.list_(pa.uint8(), 32 * 32 * 3))
    pq.write_table(replaced(table, "photo", fixed), tmp_path / "log.parquet")
    experiment = experiment_of(tmp_path, {"photo": IMAGE}, {"kind": "table", "interactions": "log.parquet"})
    prepared = prepare(experiment)
    assert prepared.quality["bad"] == 0
    for shared_layers in (None, 1):
        settings = override(experiment, {"features.photo.encoder.shared_layers": shared_layers})
        scorer, _ = trained(settings, prepared, tmp_path / f"checkpoint-{shared_layers}")
    with warnings.catch_warnings():  # MLflow would have type hints, see `pyfunc`
        warnings.simplefilter("ignore")
        from mtl_ray.tracking.pyfunc import RegisteredModel
    model = RegisteredModel()
    model.scorer = scorer
    frame = example_of(scorer, prepared)
    assert signature_of(scorer).inputs.input_names() == ["user_id", "profile_id", "photo"]
    frame["photo"] = [None, np.array(frame["photo"][1]), frame["photo"][2]]
    assert np.isfinite(np.stack(model.predict(None, frame)["occupation"].to_list())).all()
