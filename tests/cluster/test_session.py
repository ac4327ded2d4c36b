"""Ray as `connect` starts it on this machine, in a process of its own and without the RAY_AUTH_MODE of the tests."""

import ipaddress
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import ray
import ray.train

from mtl_ray.runs.ray_trainer import RayTrainer

SCRIPT = """
import json, os, sys
from mtl_ray.cluster.session import connect
connect()
import ray
address = ray.get_runtime_context().gcs_address
dashboard = ray._private.worker.global_worker.node.address_info["webui_url"]
print(json.dumps({"address": address, "dashboard": dashboard, "token": os.environ["RAY_AUTH_TOKEN"],
                  "task": ray.get(ray.remote(lambda: 3).remote())}), flush=True)
sys.stdin.read()
"""


ASK = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"


def addresses(pid: int) -> set[str]:
    """The addresses on which a process and its children listen."""
    process = psutil.Process(pid)
    found = set()
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found |= {c.laddr.ip for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return found


def test_a_run_on_this_machine_answers_its_own_processes_alone(tmp_path: Path):
    unset = {key: value for key, value in os.environ.items() if key not in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    alone = unset | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone
    )
    assert run.stdin is not None
    assert run.stdout is not None
    try:
        found = json.loads(next(line for line in run.stdout if line.startswith("{")))
        assert found["task"] == 3
        assert not found["dashboard"]  # nobody looks at it
        assert not list(tmp_path.rglob("auth_token"))  # the token of a run is kept nowhere
        listening = addresses(run.pid)
        assert listening
        assert all(ipaddress.ip_address(each.removeprefix("::ffff:")).is_loopback for each in listening), listening

        def answers(mode: str, token: str = "") -> bool:
            # Not `ray health-check`, which takes the address of a network in place of 127.0.0.1 where there is one.
            command = [sys.executable, "-c", ASK, found["address"]]
            environment = alone | {"RAY_AUTH_MODE": mode} | ({"RAY_AUTH_TOKEN": token} if token else {})
            return subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 0

        assert answers("token", found["token"])
        assert not answers("token", "f" * 64)
        assert not answers("disabled")
    finally:
        run.stdin.close()
        run.wait(60)


def actors(_: dict) -> list[str]:
    """The kinds of processes of the Ray that this process is one of; there may be another on the machine."""
    raylet = psutil.Process().parent()
    assert raylet is not None
    titles = []
    for process in raylet.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            titles.append(" ".join(process.cmdline()))
    return sorted({title.split()[0].partition(".")[0] for title in titles if title.startswith("ray::")})


def test_a_training_on_this_machine_starts_no_process_that_it_has_no_use_for(cluster, tmp_path: Path):
    """Nor does Ray Train, of a release to come, start others than `RayTrainer` knows."""
    known = {"ray::TrainController", "ray::SynchronizationActor", "ray::RayTrainWorker"}
    known |= {"ray::IDLE", "ray::_AutoscalingCoordinatorActor", *ray.get(ray.remote(actors).remote({}))}
    run = ray.train.RunConfig(storage_path=str(tmp_path), name="actors")
    trainer = RayTrainer(
        actors,
        train_loop_config={},
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=run,
    )
    found = set(trainer.fit().return_value or ())
    assert "ray::RayTrainWorker" in found
    assert found <= known
