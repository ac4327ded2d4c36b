"""A training of which every part is a class of the user's, from a package that is on PYTHONPATH alone.

Two workers, a failure and a restart from the checkpoint, then the registered model in other processes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import torch

from mtl_ray.config import load
from mtl_ray.data.dataset import open_prepared
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.models import checkpoint
from mtl_ray.training.fit import fit
from mtl_ray.training.trainer import Trainer
from tests.cluster.test_job import free_ports
from tests.local.test_custom import PREDICT
from tests.support import OWN, TREE, importable, shard, wait_for, write_parts

ROOT = Path(__file__).parents[2]
DRIVER = """

from ray.train import UserCallback


class Noted(UserCallback):
    def __init__(self, settings):
        self.file = settings.file

    class Config(Section):
        file: str

    def after_report(self, run_context, metrics, checkpoint):
        with open(self.file, "a") as file:
            file.write(f"{metrics[0]['epoch']} ")
"""


class Place:
    """The package, the experiment, and how commands are run with and without the package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_parts(folder / "elsewhere", DRIVER)
        self.uri = f"sqlite:///{folder}/mlflow.db"
        training = {
            **TREE["training"],
            "epochs": 3,
            "num_workers": 2,
            "max_failures": 1,
            "output": str(folder / "runs"),
            "callbacks": [{"class": "shop.parts:FailsOnce", "settings": {"mark": str(folder / "failed")}}],
            "driver_callbacks": [{"class": "shop.parts:Noted", "settings": {"file": str(folder / "noted")}}],
        }
        data = {**OWN["data"], "output": str(folder / "datasets")}
        tracking = {"uri": self.uri, "register_as": "own"}
        self.file = folder / "own.yaml"
        self.file.write_text(
            json.dumps({**TREE, **OWN, "data": data, "training": training, "tracking": tracking, "name": "own"})
        )

    def environment(self, *, package: bool) -> dict[str, str]:
        path = [str(ROOT), *([str(self.folder / "elsewhere")] if package else [])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}

    def run(self, *words: str, package: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mtl_ray.cli", *words]
        environment = self.environment(package=package)
        return subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def result(place: Place) -> dict[str, Any]:
    """The result of the training."""
    done = place.run("train", str(place.file), "--json", str(place.folder / "result.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((place.folder / "result.json").read_text())


@pytest.fixture
def importable_here(place: Place):
    with importable(place.folder / "elsewhere", "shop"):
        yield


@pytest.mark.usefixtures("importable_here")
def test_two_workers_that_failed_once_train_as_one_that_did_not(place: Place, result):
    assert sorted(path.name for path in place.folder.glob("failed-*")) == ["failed-0", "failed-1"]
    assert (place.folder / "noted").read_text().split() == ["1", "2", "3"]
    experiment, prepared = load(place.file), open_prepared(result["dataset"])
    single = Trainer(experiment, prepared.schema, torch.device("cpu"))
    fit(single, shard(prepared, "train"), shard(prepared, "valid"), lambda _: None, None)
    found = checkpoint.load(Path(result["checkpoint"]), trust=True).model.state_dict()
    for name, value in single.model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-7)
    assert 0 < result["metrics"]["test/rating/HitShare"] < 1


def test_the_model_runs_with_trust_and_says_in_a_line_what_it_needs(place: Place, result):
    rows, out = f"{result['dataset']}/{RAW_TEST}", str(place.folder / "scores")
    words = ["predict", "models:/own/1", "--tracking-uri", place.uri, "--input", rows, "--output", out]
    refused = place.run(*words)
    assert refused.returncode == 2
    assert "the model needs shop.parts:" in refused.stderr
    assert "make it importable and pass --trust" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    missing = place.run(*words, "--trust", package=False)
    assert missing.returncode == 2
    assert "needs the module `shop`" in missing.stderr
    assert len(missing.stderr.strip().splitlines()) == 1
    done = place.run(*words, "--trust")
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(out)
    rated = frame[frame.rating.notna()]
    share = float((abs(rated.predicted_rating - rated.rating) <= 0.5).mean())
    assert share == pytest.approx(result["metrics"]["test/rating/HitShare"], abs=1e-6)


def test_mlflow_loads_it_where_the_package_is_not(place: Place, result):
    rows = pd.DataFrame([{"user_id": "u1", "item_id": "i7", "age": 30.0}, {"user_id": "new", "item_id": "i2"}])
    rows.to_parquet(place.folder / "rows.parquet")
    words = [place.uri, str(place.folder / "rows.parquet"), str(place.folder / "found.parquet")]
    environment = place.environment(package=False)
    subprocess.run([sys.executable, "-c", PREDICT, *words], check=True, env=environment, cwd=place.folder)
    assert np.isfinite(pd.read_parquet(place.folder / "found.parquet").rating).all()


@pytest.mark.long
@pytest.mark.usefixtures("importable_here")
def test_it_is_served(place: Place, result):
    (port,) = free_ports(1)
    words = ["serve", "models:/own/1", "--tracking-uri", place.uri, "--port", str(port), "--trust"]
    command, environment = [sys.executable, "-m", "mtl_ray.cli", *words], place.environment(package=True)
    body = {"dataframe_records": [{"user_id": "u1", "item_id": "i7", "age": 30}]}
    with (place.folder / "serve.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd=place.folder, stdout=log, stderr=log)
    try:

        def answer() -> dict[str, Any] | None:
            assert server.poll() is None, (place.folder / "serve.log").read_text()
            try:
                found = requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=20)
            except requests.RequestException:  # it starts
                return None
            return found.json() if found.status_code == 200 else None

        (row,) = wait_for(answer)["predictions"]
    finally:
        server.terminate()
        server.wait(60)
    mlflow.set_tracking_uri(place.uri)
    expected = mlflow.pyfunc.load_model("models:/own/1").predict(pd.DataFrame(body["dataframe_records"]))
    assert row["rating"] == pytest.approx(expected["rating"].item(), abs=1e-9)
