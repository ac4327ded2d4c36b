"""Every architecture: two workers of Ray Train, stopped and resumed, then registered and used on raw rows.

Starting workers takes most of the time, so it is a mixture with tables of each task; with MTL_RAY_EVERY_ARCHITECTURE=1
in the environment it is every one. `tests/local` has them all in processes without Ray.
"""

import os
from unittest import mock

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ray.train import TrainingFailedError

from mtl_ray.config import Experiment, override
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.inference.predict import predict
from mtl_ray.models import checkpoint
from mtl_ray.runs.train import train
from mtl_ray.tracking.registry import checkpoint_folder
from mtl_ray.training import worker
from mtl_ray.training.trainer import Trainer
from tests.cluster.test_end_to_end import UNKNOWN
from tests.support import architectures, shard

TASKS = {"click": "binary", "purchase": {"kind": "binary", "after": "click"}, "rating": "regression"}
KINDS = architectures() if "MTL_RAY_EVERY_ARCHITECTURE" in os.environ else ("stem",)


def experiment_of(settings: Experiment, kind: str) -> Experiment:
    changes = {"name": "every", "model": architectures()[kind], "tasks": TASKS, "tracking.register_as": kind}
    return override(settings, {**changes, "training.epochs": 2, "training.max_failures": 0})


def stop_in_the_second_epoch(config: dict) -> None:
    """Instead of `train_worker`: fails where the second epoch would be reported."""
    report = worker._report

    def report_the_first(metrics, *arguments):
        if metrics["epoch"] == 2:
            raise RuntimeError("stopped on purpose")
        report(metrics, *arguments)

    with mock.patch.object(worker, "_report", report_the_first):
        worker.train_worker(config)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_resumes_registers_and_predicts(cluster, settings, work, tmp_path, monkeypatch, kind: str):
    monkeypatch.chdir(work)
    experiment, said = experiment_of(settings, kind), []
    with mock.patch("mtl_ray.runs.fit.train_worker", stop_in_the_second_epoch), pytest.raises(TrainingFailedError):
        train(experiment, echo=said.append)
    name = next(line.removeprefix("run ").partition(";")[0] for line in said if line.startswith("run "))
    trained = train(experiment, resume=name, echo=said.append)
    assert trained.run_id is not None
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    epochs = client.get_metric_history(trained.run_id, "valid/rating/rmse")
    assert [epoch.step for epoch in epochs] == [1, 2]  # the first one was not trained again

    single = Trainer(experiment, trained.prepared.schema, torch.device("cpu"))
    for _ in range(2):
        single.epoch(shard(trained.prepared, "train"))
    found = checkpoint.load(trained.checkpoint, trust=True).model.state_dict()
    for key, value in single.model.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-7)

    uri = f"models:/{kind}/1"
    assert trained.model_uri == uri
    folder = checkpoint_folder(uri, settings.tracking.uri)
    predicted = predict(folder, f"{trained.prepared.folder}/{RAW_TEST}", str(tmp_path / "out"), trust=True)
    frame = pq.read_table(predicted.folder.path).to_pandas()
    rated = frame[frame.rating.notna()]
    rmse = float(np.sqrt(((rated.predicted_rating - rated.rating) ** 2).mean()))
    assert rmse == pytest.approx(trained.evaluation.metrics["test/rating/rmse"], abs=1e-6)
    mlflow.set_tracking_uri(settings.tracking.uri)
    scores = mlflow.pyfunc.load_model(uri).predict(UNKNOWN)
    assert list(scores.columns) == list(TASKS)
    assert np.isfinite(scores.to_numpy(dtype=float)).all()
