"""Raw log to registered model and back to predictions, with two workers of Ray Train."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.errors import InputError
from mtl_ray.inference.evaluate import evaluate_checkpoint
from mtl_ray.inference.predict import predict
from mtl_ray.models import checkpoint
from mtl_ray.tracking.registry import checkpoint_folder
from mtl_ray.training.trainer import Trainer
from mtl_ray.workflows.report import report
from tests.support import shard

UNKNOWN = pd.DataFrame(
    {
        "user_id": ["nobody", None, "u1", "u2"],
        "item_id": ["nothing", "i1", None, "i2"],
        "age": [None, 30, "41", None],
        "gender": ["X", None, "F", "M"],
        "occupation": [None, "astronaut", "lawyer", None],
        "category": ["unheard of", None, None, "c"],
        "tags": ["a|b", None, "", "zzz"],
        "price": [None, 1e9, -3, 0],
        "history": [None, ["i1", "never"], [], ["i2"] * 50],
    }
)


def test_workers_of_ray_train_equal_a_single_process(trained, settings):
    single = Trainer(settings, trained.prepared.schema, torch.device("cpu"))
    for _ in range(settings.training.epochs):
        single.epoch(shard(trained.prepared, "train"))
    found = checkpoint.load(trained.checkpoint).model.state_dict()
    for name, value in single.model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7)


def test_the_run_is_in_mlflow_once_and_whole(trained, settings):
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    run = next(r for r in runs if r.info.run_id == trained.run_id)
    assert [r.info.run_name for r in runs].count(trained.name) == 1
    assert run.info.status == "FINISHED"
    assert run.data.params["training.num_workers"] == "2"
    assert run.data.tags["content_hash"] == trained.prepared.schema.content_hash
    history = client.get_metric_history(trained.run_id, "valid/rating/rmse")
    assert [m.step for m in history] == list(range(1, settings.training.epochs + 1))
    assert run.data.metrics["test/click/auc"] == pytest.approx(trained.evaluation.metrics["test/click/auc"])
    assert {a.path for a in client.list_artifacts(trained.run_id)} >= {
        "experiment.yaml",
        "quality.json",
        "report.html",
        "segments.png",
    }
    assert run.inputs.dataset_inputs[0].dataset.digest == trained.prepared.schema.content_hash[:32]


def test_predictions_of_the_registered_model_have_the_metrics_of_evaluate(trained, settings, tmp_path, monkeypatch):
    folder = checkpoint_folder("models:/small/1", settings.tracking.uri)
    rows = f"{trained.prepared.folder}/{RAW_TEST}"
    predicted = predict(folder, rows, str(tmp_path / "out"))
    frame = pq.read_table(predicted.folder.path).to_pandas()
    assert predicted.num_rows == len(frame) == trained.prepared.schema.num_rows["test"]
    monkeypatch.setattr("mtl_ray.inference.evaluate.IN_PROCESS_ROWS", 0)
    again = evaluate_checkpoint(folder, trained.prepared, "test").metrics  # by Ray Data
    assert again == pytest.approx(trained.evaluation.metrics, abs=1e-9)
    rated = frame[frame.rating.notna()]
    rmse = float(np.sqrt(((rated.predicted_rating - rated.rating) ** 2).mean()))
    assert rmse == pytest.approx(again["test/rating/rmse"], abs=1e-6)
    assert roc_auc_score(frame.click, frame.predicted_click) == pytest.approx(again["test/click/auc"], abs=1e-6)
    gender = roc_auc_score(frame.gender == "F", frame.predicted_gender)
    assert gender == pytest.approx(again["test/gender/auc"], abs=1e-6)
    bought = frame[(frame.click == 1) & frame.purchase.notna()]
    assert len(bought) == again["test/purchase/count"]


def test_unknown_entities_and_nulls_get_finite_predictions(trained, settings, tmp_path: Path):
    table = {n: pa.array([None if v is None else str(v) for v in UNKNOWN[n]]) for n in UNKNOWN if n != "history"}
    table["history"] = pa.array(UNKNOWN.history.tolist())
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    predicted = predict(trained.checkpoint, str(tmp_path / "rows.parquet"), str(tmp_path / "out"))
    frame = pq.read_table(predicted.folder.path).to_pandas()
    assert len(frame) == len(UNKNOWN)
    for task in settings.tasks:
        assert np.isfinite(np.stack(frame[f"predicted_{task}"].to_list()).astype(float)).all()


def test_the_pyfunc_model_scores_frames_like_the_batch_job(trained, settings, tmp_path: Path):
    mlflow.set_tracking_uri(settings.tracking.uri)
    model = mlflow.pyfunc.load_model("models:/small/1")
    scores = model.predict(UNKNOWN)
    assert list(scores.columns) == list(settings.tasks)
    assert np.isfinite(scores.rating).all()
    assert ((scores.click > 0) & (scores.click < 1)).all()
    assert np.stack(scores.occupation.to_list()).sum(1) == pytest.approx(1)
    ids_alone = model.predict(pd.DataFrame({"user_id": ["u1"], "item_id": ["i1"]}))
    assert np.isfinite(ids_alone.rating).all()


def test_metric_keys_name_split_task_metric_and_segment(trained):
    metrics = trained.evaluation.metrics
    assert {"test/rating/rmse", "test/rating/rmse/warm", "test/click/auc/new_user"} <= metrics.keys()
    counts = [metrics[f"test/click/count/{s}"] for s in ("warm", "new_user", "new_item", "new_both")]
    assert sum(counts) == metrics["test/click/count"] == trained.prepared.schema.num_rows["test"]


def test_the_report_can_be_made_anew_from_the_folder_of_the_run(trained):
    text = trained.folder.read_text("report.html")
    assert text.count("<figure>") >= 3
    assert f"{trained.evaluation.metrics['test/rating/rmse']:.4f}" in text
    assert "noise floor" in text
    trained.folder.write_text("report.html", "")
    report(trained.folder.location)
    assert trained.folder.read_text("report.html") == text


def test_there_is_no_report_of_what_is_no_run_or_did_not_end(trained, tmp_path: Path):
    with pytest.raises(InputError, match=r"expected the folder of a run, such as runs/NAME; found no run\.json there"):
        report(str(tmp_path))
    (tmp_path / "run.json").write_text(trained.folder.read_text("run.json"))
    with pytest.raises(InputError, match="the run did not end, so there is nothing to report"):
        report(str(tmp_path))
