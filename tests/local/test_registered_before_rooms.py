"""A model registered before the package was divided into rooms loads, predicts the same and can be trained on."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.data.prepare import prepare
from mtl_ray.models import checkpoint
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.registry import checkpoint_folder
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import start_from
from tests.support import shard

FIXTURE = Path(__file__).parents[1] / "fixtures/registered_before_rooms"
MODEL = "models:/before/1"


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> str:
    """The server with the model, its files as MLflow kept them then."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("before", f"file://{folder}/artifacts")
    with mlflow.start_run(experiment_id=experiment):
        mlflow.pyfunc.log_model(
            name="model",
            python_model=str(FIXTURE / "pyfunc.py"),
            artifacts={"checkpoint": str(FIXTURE / "checkpoint")},
            registered_model_name="before",
            pip_requirements=[],
        )
    return uri


def assert_as_before(predictions: dict[str, Any]) -> None:
    """Compare with the predictions of that time."""
    expected = json.loads((FIXTURE / "expected.json").read_text())
    assert list(predictions) == list(expected[0])
    for task, values in predictions.items():
        before = np.array([row[task] for row in expected])
        np.testing.assert_allclose(np.array(list(values)), before, rtol=0, atol=1e-6)


def test_mlflow_loads_the_model_and_it_predicts_as_before(registry: str):
    mlflow.set_tracking_uri(registry)
    predictions = mlflow.pyfunc.load_model(MODEL).predict(pd.read_parquet(FIXTURE / "rows.parquet"))
    assert_as_before({name: predictions[name] for name in predictions.columns})


def test_the_scorer_loads_the_checkpoint_and_predicts_as_before():
    scores = Scorer(FIXTURE / "checkpoint").score(pq.read_table(FIXTURE / "rows.parquet"))
    assert_as_before(scores)


def test_every_weight_stands_in_its_place():
    """The optimizer's state of a resumed run goes by the order of parameters, which no reader of weights sees."""
    loaded = checkpoint.load(FIXTURE / "checkpoint")
    names = list(loaded.model.state_dict())
    tree = json.loads((FIXTURE / "parameters.json").read_text())
    assert names == tree["state"]
    assert [name for name, _ in loaded.model.named_parameters()] == tree["parameters"]


def test_a_training_starts_from_it(registry: str, local_ray: None, tmp_path: Path):
    before: Experiment = checkpoint.load(FIXTURE / "checkpoint").experiment
    changes = {
        "data.source.interactions": str(FIXTURE / "log.parquet"),
        "data.output": str(tmp_path),
        "tracking.uri": registry,
        "training.warm_start": MODEL,
    }
    prepared = prepare(override(before, changes), echo=lambda _: None)
    experiment = stage_models(override(before, changes), RunFolder(str(tmp_path / "run")))
    assert experiment.training.warm_start is not None
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    start_from(trainer, prepared, experiment.training.warm_start)
    weights = checkpoint.load(checkpoint_folder(MODEL, registry)).model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
    (batch, *_) = shard(prepared, "train").training_batches(0, 0, 128)
    trainer.step(batch)
    assert not torch.equal(trainer.model.state_dict()[name := next(iter(weights))], weights[name])
