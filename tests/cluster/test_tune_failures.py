"""A search goes on to a node that joins, and nothing is lost or done twice when a trial, a node and the driver die."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from mtl_ray.config import override
from tests.support import small_experiment, wait_for

TRIALS, EPOCHS = 6, 16


@pytest.mark.long
def test_a_search_uses_a_node_that_joins_and_survives_the_death_of_a_trial_of_a_node_and_of_its_driver(tmp_path: Path):
    experiment = override(
        small_experiment(),
        {
            "data.output": str(tmp_path / "datasets"),
            "training.output": str(tmp_path / "runs"),
            "training.epochs": EPOCHS,
            "training.max_failures": 4,  # Ray Tune counts one lost node twice, if it waits for two answers from there
            "tracking.uri": f"sqlite:///{tmp_path}/mlflow.db",
            "tune": {
                "objectives": "valid/rating/rmse",
                "space": {"tasks.*.weight": {"kind": "simplex"}},
                "algorithm": "random",
                "trials": TRIALS,
                "max_concurrent": 3,
            },
        },
    )
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude_unset=True), sort_keys=False))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        first = cluster.add_node(num_cpus=1)
        with (tmp_path / "log").open("w") as log:
            driver = started(file, cluster.address, log, [])
            folder = wait_for(lambda: next((tmp_path / "runs").glob("*/trials"), None)).parent
            wait_for(lambda: any(folder.glob("trials/*.json")))
            joined = cluster.add_node(num_cpus=1)
            os.kill(wait_for(lambda: trial_process(joined)), signal.SIGKILL)
            wait_for(lambda: len(ended(folder)) >= 1 or driver.poll() is not None)
            cluster.remove_node(first, allow_graceful=False)
            wait_for(lambda: len(ended(folder)) >= 3 or driver.poll() is not None)
            assert driver.poll() is None, (tmp_path / "log").read_text()
            before = ended(folder)
            assert len(before) < TRIALS
            driver.kill()
            driver.wait()
            again = started(file, cluster.address, log, ["--resume", folder.name, "--json", str(tmp_path / "out.json")])
            assert again.wait(400) == 0, (tmp_path / "log").read_text()
    finally:
        cluster.shutdown()
    after = ended(folder)
    assert len(after) == TRIALS
    for name, trial in before.items():  # what had ended was not trained again
        assert {key: after[name][key] for key in ("history", "seconds")} == {
            key: trial[key] for key in ("history", "seconds")
        }
    assert all(len(trial["history"]) == EPOCHS for trial in after.values())
    client = mlflow.MlflowClient(tracking_uri=str(experiment.tracking.uri))
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    names = sorted(run.info.run_name.removeprefix(f"{folder.name}/") for run in runs)
    references = ["alone_rating", "incumbent"]
    assert names == [*references, folder.name, *after]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.info.run_name.rpartition("/")[2] in after:
            logged = client.get_metric_history(run.info.run_id, "valid/rating/rmse")
            assert {metric.step for metric in logged} == set(range(1, EPOCHS + 1))


def started(file: Path, address: str, log, options: list[str]) -> subprocess.Popen:
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "mtl_ray.cli", "tune", str(file), *options]
    return subprocess.Popen(command, env=environment, cwd=file.parent, stdout=log, stderr=log, start_new_session=True)


def ended(folder: Path) -> dict[str, dict]:
    """Files of the trials that reported their last epoch, by name."""
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("trials/*.json")}
    return {name: trial for name, trial in sorted(found.items()) if trial["state"] == "finished"}


def trial_process(node) -> int | None:
    """The process of a trial on a node."""
    for info in node.all_processes["raylet"]:
        for process in psutil.Process(info.process.pid).children(recursive=True):
            if "ImplicitFunc" in " ".join(process.cmdline()):
                return process.pid
    return None
