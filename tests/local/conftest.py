import shutil
from pathlib import Path

import mlflow
import pytest
import ray
from mlflow import MlflowClient

from mtl_ray.cluster.session import connect
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.tracking.entries import metric_key
from tests.support import small_experiment

CHECKPOINT = Path(__file__).parents[1] / "fixtures/registered_before_rooms/checkpoint"
METRICS = {"test/click/auc": 0.75, "test/click/auc/user_support_20+": 0.7}


@pytest.fixture(scope="package")
def local_ray():
    """Ray, for the few tests of this folder that need it."""
    connect(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="package")
def prepared(tmp_path_factory) -> Prepared:
    return prepare(small_experiment(data__output=str(tmp_path_factory.mktemp("datasets"))))


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> str:
    """A registry with a version of the model `shop`, the champion, whose run has metrics."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    client.create_registered_model("shop")
    shutil.copytree(CHECKPOINT, folder / "model/artifacts/checkpoint")
    run = client.create_run(client.create_experiment("shop", artifact_location=f"file://{folder}/runs"))
    for key, value in {**METRICS, "valid/click/auc": 0.8}.items():
        client.log_metric(run.info.run_id, metric_key(key), value)
    client.create_model_version("shop", f"file://{folder}/model", run.info.run_id)
    client.set_registered_model_alias("shop", "champion", "1")
    return uri
