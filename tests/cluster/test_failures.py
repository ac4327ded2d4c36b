"""Nothing is lost when a worker or the whole process is killed: the resumed run ends with the same parameters."""

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import mlflow
import psutil
import pytest
import torch
import yaml

from mtl_ray.config import override
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.runs.train import train
from tests.support import small_experiment, wait_for

LISTENING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from mtl_ray.cli.main import main
main(sys.argv[1:])
"""
"""The command line; what runs in the background of a shell is born deaf to Ctrl-C."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder).model.state_dict()


def assert_same(one: Path, other: Path) -> None:
    expected = weights(one)
    assert all(torch.equal(value, expected[name]) for name, value in weights(other).items())


def checkpoints(runs: Path) -> list[Path]:
    return sorted(runs.glob("*/checkpoint_*/model.safetensors"))


def test_a_killed_worker_is_replaced_and_the_result_is_the_same(trained, settings, work, monkeypatch):
    monkeypatch.chdir(work)
    slow = small_experiment(
        **{
            "data__output": settings.data.output,
            "training__output": str(work / "killed_worker"),
            "training__num_workers": 2,
            "training__epochs": 6,
            "tracking__uri": settings.tracking.uri,
        }
    )
    killed: list[int] = []

    def kill_one():
        wait_for(lambda: checkpoints(work / "killed_worker"))
        for process in psutil.Process().children(recursive=True):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                killed.append(process.pid)
                process.send_signal(signal.SIGKILL)
                return

    thread = threading.Thread(target=kill_one)
    thread.start()
    result = train(slow, echo=lambda _: None)
    thread.join()
    assert killed
    assert_same(trained.checkpoint, result.checkpoint)


def started(trained, settings, work: Path, folder: str):
    """A training process that has written its first checkpoint, its experiment, runs folder and log file."""
    runs, file, log = work / folder, work / f"{folder}.yaml", work / f"{folder}.log"
    experiment = small_experiment(
        data__output=settings.data.output,
        training__output=str(runs),
        training__num_workers=2,
        training__epochs=6,
        tracking__uri=settings.tracking.uri,
    )
    file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude_unset=True), sort_keys=False))
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", LISTENING, "train", str(file)]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    found = wait_for(lambda: checkpoints(runs) or process.poll() is not None)
    assert found is not True, log.read_text()
    return process, experiment, runs, log


def test_ctrl_c_says_how_to_continue(trained, settings, work: Path, monkeypatch):
    monkeypatch.chdir(work)
    process, _, runs, log = started(trained, settings, work, "interrupted")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(120) == 130, log.read_text()
    name = next(runs.glob("*/run.json")).parent.name
    assert f"stopped; continue with: mtl-ray train EXPERIMENT --resume {name}" in log.read_text()
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    run_id = json.loads((runs / name / "run.json").read_text())["run_id"]
    assert client.get_run(run_id).info.status == "KILLED"


def test_a_killed_process_resumes_to_the_same_result(trained, settings, work: Path, monkeypatch):
    monkeypatch.chdir(work)
    process, experiment, runs, _ = started(trained, settings, work, "killed_process")
    process.kill()
    process.wait()
    name = next(runs.glob("*/run.json")).parent.name
    with pytest.raises(InputError, match="differs from that of the run in seed"):
        train(small_experiment(**{"seed": 4, "training__output": str(runs)}), resume=name)
    said: list[str] = []
    reordered = experiment.model_copy(update={"features": dict(sorted(experiment.features.items()))})
    result = train(reordered, resume=name, echo=said.append)
    assert said[0] == f"resuming run {name}"
    assert_same(trained.checkpoint, result.checkpoint)
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    assert client.get_run(result.run_id).info.status == "FINISHED"
    runs_named = client.search_runs(
        [client.get_run(result.run_id).info.experiment_id], f"attributes.run_name = '{name}'"
    )
    assert len(runs_named) == 1


@pytest.mark.long
def test_an_unreachable_tracking_server_does_not_stop_training(trained, settings, work, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    experiment = small_experiment(
        data__output=settings.data.output,
        training__output=str(work / "unreachable"),
        training__num_workers=2,
        training__epochs=6,
        tracking__uri="http://127.0.0.1:9",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(experiment, echo=lambda _: None)
    assert any("MLflow at http://127.0.0.1:9: could not create the run" in str(w.message) for w in caught)
    assert result.run_id is None
    assert_same(trained.checkpoint, result.checkpoint)
    assert "valid/rating/rmse" in result.folder.read_text("unlogged.jsonl")
    # Resumed when there is a server, it is one run there with all that the first try could not log.
    experiment = override(experiment, {"tracking.uri": None})
    note = json.loads(result.folder.read_text("run.json"))
    note["experiment"]["tracking"]["uri"] = None
    result.folder.write_atomic("run.json", json.dumps(note))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking.uri)
    resumed = train(experiment, resume=result.name, echo=lambda _: None)
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    assert client.get_run(resumed.run_id).info.status == "FINISHED"
    assert {metric.step for metric in client.get_metric_history(resumed.run_id, "train/loss")} == set(range(1, 7))
    assert client.get_run(resumed.run_id).data.params["training.epochs"] == "6"
    assert not resumed.folder.exists("unlogged.jsonl")
    assert json.loads(resumed.folder.read_text("run.json"))["run_id"] == resumed.run_id
