"""The registered model in an environment with nothing but its own requirements.

They include torch, so this is done on request: MTL_RAY_TEST_CLEAN=FOLDER names where the environment is made, or kept.
"""

import json
import os
import subprocess
import time
import venv
from pathlib import Path

import mlflow
import pytest

from mtl_ray.data.preparation.write import RAW_TEST
from tests.cluster.test_job import free_ports
from tests.cluster.test_serve import ask

pytestmark = pytest.mark.timeout(3600)

SCRIPT = """
import json, sys
import mlflow, numpy as np, pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

uri, rows = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model("models:/small@champion")
frame = pd.read_parquet(rows)
scores = model.predict(frame)
error = (scores.rating - frame.rating)[frame.rating.notna()]
print(json.dumps({
    "ray": "ray" in sys.modules,
    "rating/rmse": float(np.sqrt((error**2).mean())),
    "rating/mae": float(error.abs().mean()),
    "click/auc": roc_auc_score(frame.click, scores.click),
    "click/log_loss": log_loss(frame.click, scores.click),
    "gender/auc": roc_auc_score(frame.gender == "F", scores.gender),
}))
"""


@pytest.fixture(scope="module")
def python(trained, settings) -> Path:
    """Python of an environment that has the requirements of the champion."""
    place = os.environ.get("MTL_RAY_TEST_CLEAN")
    if not place:
        pytest.skip("MTL_RAY_TEST_CLEAN does not name a folder for an environment with torch in it")
    mlflow.set_tracking_uri(settings.tracking.uri)
    mlflow.MlflowClient().set_registered_model_alias("small", "champion", "1")
    requirements = mlflow.artifacts.download_artifacts("models:/small@champion/requirements.txt")
    assert "ray" not in Path(requirements).read_text().split("==")
    interpreter = Path(place) / "bin" / "python"
    if not interpreter.exists():
        venv.create(place, with_pip=True)
    subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    return interpreter


def run(python: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=bare(python), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def bare(python: Path) -> dict[str, str]:
    """The environment without this project."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "PATH": f"{python.parent}:{kept['PATH']}"}


def test_the_champion_reproduces_the_evaluation_metrics(python, trained, settings, tmp_path: Path):
    absent = subprocess.run(
        [python, "-c", "import ray"], cwd=tmp_path, env=bare(python), capture_output=True, check=False
    )
    assert b"ModuleNotFoundError" in absent.stderr
    output = run(python, tmp_path, "-c", SCRIPT, settings.tracking.uri, f"{trained.prepared.folder}/{RAW_TEST}")
    found = json.loads(output.splitlines()[-1])
    assert found.pop("ray") is False
    print("\n", found)
    for key, value in found.items():
        assert value == pytest.approx(trained.evaluation.metrics[f"test/{key}"], abs=1e-6), key


def test_the_server_of_mlflow_answers_the_same_request(python, settings, tmp_path: Path):
    (port,) = free_ports(1)
    body = json.dumps({"dataframe_records": [{"user_id": "u1", "item_id": "i7", "age": 30, "history": ["i1"]}]})
    command = ["models", "serve", "-m", "models:/small@champion", "-h", "127.0.0.1", "-p", str(port)]
    environment = {**bare(python), "MLFLOW_TRACKING_URI": settings.tracking.uri}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [python, "-m", "mlflow", *command, "--env-manager", "local"],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        answer = patient(port, body.encode())
    finally:
        server.terminate()
        server.wait(60)
    print("\n", answer)
    assert list(answer["predictions"][0]) == list(settings.tasks)


def patient(port: int, body: bytes) -> dict:
    """The answer of a server that may still be starting."""
    for _ in range(120):
        try:
            status, answer = ask(port, "POST", "/invocations", body)
            assert status == 200, answer
            return answer
        except ConnectionError:
            time.sleep(1)
    raise AssertionError(f"port {port} does not answer")
