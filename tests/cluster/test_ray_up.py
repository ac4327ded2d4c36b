"""`ray up` on three hosts, a training on two of them, `ray down`. As root, see `tests/cluster/hosts.py`.

MTL_RAY_TEST_HOSTS=1 adds real data, the comparison with one machine, and the wait until all workers have ended.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mtl_ray.cluster.archive import package
from tests.cluster.hosts import Hosts, missing
from tests.support import test_data as real_data
from tests.support import wait_for

ROOT = Path(__file__).parents[2]
PROJECT, CLUSTER = "/mnt/project", "jobs/cluster-local.yaml"
"""The working folder on the host where a person sits, and the file in it that is brought up."""
WORKERS = (2, 3)
"""Hosts that train; 1 is the head."""
PLANTED = secrets.token_hex(16)
STAYS = (
    ".env",
    "jobs/prod.env",
    "cloud.pem",
    "id_rsa",
    ".aws/credentials",
    "datasets/a/schema.json",
    "runs/a/run.json",
)
"""Files that are planted in the working folder and may reach no node."""
SETTINGS = ("tracking.register_as=null", "training.num_workers=2", "training.cpus_per_worker=0.8")

pytestmark = [
    pytest.mark.skipif(bool(lacking := missing()), reason=lacking),
    pytest.mark.timeout(1500),
]
on_request = pytest.mark.skipif(not os.environ.get("MTL_RAY_TEST_HOSTS"), reason="on request: MTL_RAY_TEST_HOSTS=1")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Three hosts with a cluster, and one from which it was brought up."""
    folder = Path(tempfile.mkdtemp(prefix="hosts", dir="/var/tmp"))  # /tmp is another one on each host
    try:
        with Hosts(folder, 4) as made:
            fill_in(made)
            made.run(["ray", "get-auth-token", "--generate"])
            began = time.monotonic()
            made.run(["ray", "up", "-y", CLUSTER], folder=PROJECT)
            print(f"ray up: {time.monotonic() - began:.0f} s")
            yield made
    finally:
        shutil.rmtree(folder)


def fill_in(hosts: Hosts) -> None:
    """Copy the project and fill in its cluster file: what it says to change, and this Python for one installed."""
    project = hosts.folder / "shared/project"
    for name in package(ROOT).files:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    for name in STAYS:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(PLANTED)
    config = yaml.safe_load((ROOT / CLUSTER).read_text())
    config["provider"] |= {"head_ip": hosts.addresses[1], "worker_ips": hosts.addresses[2:]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "/root/.ssh/id_ed25519"}
    config["setup_commands"][:2] = [f"ln -sfn {sys.prefix} ~/venv"]
    # One CPU a worker node and none on the head: no two trainers fit on one, and Ray starts few processes ahead.
    for kind, cpus in (("head", 0), ("worker", 1)):
        commands = config[f"{kind}_start_ray_commands"]
        commands[-1] += f" --num-cpus={cpus} --object-store-memory=300000000"
    (project / CLUSTER).write_text(yaml.safe_dump(config))


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@contextmanager
def dashboard(hosts: Hosts) -> Iterator[None]:
    """The head's job server at 127.0.0.1:8265 of the first host."""
    forward = subprocess.Popen(hosts.command(["ray", "dashboard", CLUSTER], folder=PROJECT), stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: hosts.run(["bash", "-c", "</dev/tcp/127.0.0.1/8265"], check=False).returncode == 0, 60)
        yield
    finally:
        forward.terminate()
        forward.wait()


def train(hosts: Hosts, experiment: str, *settings: str) -> dict[str, float]:
    """Train on the cluster with the project's code alone, and return the metrics."""
    words = ["submit", "train", experiment, "--follow", "--json", "/mnt/cluster.json"]
    places = ("data.output=/mnt/datasets", "training.output=/mnt/runs", "tracking.uri=sqlite:////mnt/mlflow.db")
    words += [word for setting in (*SETTINGS, *places, *settings) for word in ("--set", setting)]
    environment = ["RAY_AUTH_MODE=token", f"AWS_SECRET_ACCESS_KEY={PLANTED}", f"PYTHONPATH={PROJECT}"]
    with dashboard(hosts):
        began = time.monotonic()
        command = ["env", *environment, sys.executable, "-m", "mtl_ray.cli", *words]
        hosts.run(command, folder=PROJECT, timeout=900)
    print(f"mtl-ray submit train: {time.monotonic() - began:.0f} s")
    return json.loads((hosts.folder / "shared/cluster.json").read_text())["metrics"]


def test_nodes_receive_what_a_job_needs_and_no_secret(hosts: Hosts):
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "mtl_ray").rglob("*") if path.is_file()}
    needed = {name for name in sources if "__pycache__" not in name and not name.endswith((".pyc", ".swp"))}
    needed |= {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "jobs/movielens.yaml"}
    token = (hosts.home(0) / ".ray/auth_token").read_text()
    assert len(needed) > 200
    assert token
    # The workers get theirs from the head, which begins with it when `ray up` has ended.
    wait_for(lambda: all(any("raylet" in line for line in of_ray(hosts, host)) for host in WORKERS))
    for host in (1, *WORKERS):
        received = files_below(hosts.home(host) / "mtl_ray")
        assert not needed - received
        assert received == set(package(ROOT).files)
        assert (hosts.home(host) / ".ray/auth_token").read_text() == token
    assert (hosts.home(1) / "ray_bootstrap_key.pem").read_text() == (hosts.home(0) / ".ssh/id_ed25519").read_text()


def test_a_job_trains_on_both_workers_and_leaves_no_secret(hosts: Hosts):
    metrics = train(hosts, "jobs/synthetic.yaml", "training.epochs=1", "data.source.num_interactions=2000")
    assert metrics["test/rating/rmse"] > 0
    for host in WORKERS:  # Ray writes this line into the log of each actor
        hosts.run(["grep", "-rlq", ":actor_name:RayTrainWorker", "/tmp/ray/session_latest/logs"], host)
    for host in (1, *WORKERS):
        found = hosts.run(["grep", "-rl", PLANTED, "/tmp/ray", "/mnt/runs", "/mnt/datasets"], host, check=False)
        assert not found.stdout


@on_request
def test_two_nodes_give_the_metrics_of_one_machine(hosts: Hosts):
    shutil.copytree(real_data("ml-100k"), hosts.folder / "shared/ml-100k")
    settings = ("training.epochs=2", "data.raw=/mnt/ml-100k")
    together = train(hosts, "jobs/movielens.yaml", *settings)
    one = hosts.folder / "one"
    words = ["train", str(ROOT / "jobs/movielens.yaml"), "--json", f"{one}.json", f"--set=data.output={one}/datasets"]
    words += [f"--set=training.output={one}/runs", f"--set=tracking.uri=sqlite:///{one}.db", "--set=training.epochs=2"]
    words += ["--set=tracking.register_as=null", "--set=training.num_workers=2"]
    words += [f"--set=data.raw={hosts.folder}/shared/ml-100k"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
    subprocess.run(
        [sys.executable, "-m", "mtl_ray.cli", *words],
        check=True,
        capture_output=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=hosts.folder,
    )
    alone = json.loads(Path(f"{one}.json").read_text())["metrics"]
    assert alone.keys() == together.keys()
    differences = {key: abs(value - together[key]) for key, value in alone.items()}
    print(f"rating RMSE {alone['test/rating/rmse']:.4f}, {together['test/rating/rmse']:.4f}")
    print(f"largest difference of {len(alone)} metrics: {max(differences.values()):.2g}")
    assert max(differences.values()) < 1e-3, max(differences, key=lambda key: differences[key])


def test_ray_down_ends_the_head(hosts: Hosts):
    assert of_ray(hosts, 1)
    hosts.run(["ray", "down", "-y", CLUSTER], folder=PROJECT)
    assert not of_ray(hosts, 1)


@on_request
def test_workers_end_when_the_head_stays_away(hosts: Hosts):
    """All but their log monitors do, which `ray stop` ends."""
    began = time.monotonic()
    wait_for(lambda: all("log_monitor" in line for host in WORKERS for line in of_ray(hosts, host)), 150)
    print(f"ray down: nothing but log monitors after {time.monotonic() - began:.0f} s")
    for host in WORKERS:
        hosts.run(["ray", "stop"], host)
        assert not of_ray(hosts, host)


def of_ray(hosts: Hosts, host: int) -> list[str]:
    return [line for line in hosts.processes(host) if "ray" in line]
