"""`ray up` on three hosts, a training on two of them, `ray down`. On request: MTL_RAY_TEST_HOSTS=1, as root."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from tests.cluster.hosts import Hosts, available
from tests.support import test_data as real_data
from tests.support import wait_for

ROOT = Path(__file__).parents[2]
SETTINGS = ["--set", "training.epochs=2", "--set", "tracking.register_as=null", "--set", "training.num_workers=2"]
PLANTED = secrets.token_hex(16)

pytestmark = [
    pytest.mark.skipif(not os.environ.get("MTL_RAY_TEST_HOSTS"), reason="on request: MTL_RAY_TEST_HOSTS=1"),
    pytest.mark.timeout(1500),
]


@pytest.fixture
def hosts():
    if not available():
        pytest.skip("hosts need root, iproute2, openssh-server and rsync")
    folder = Path(tempfile.mkdtemp(prefix="hosts", dir="/var/tmp"))  # /tmp is another one on each host
    try:
        with Hosts(folder, 4) as made:
            yield made
    finally:
        shutil.rmtree(folder)


def cluster_file(hosts: Hosts) -> Path:
    """jobs/cluster-local.yaml with what it says to change, and with this Python instead of one installed."""
    config = yaml.safe_load((ROOT / "jobs/cluster-local.yaml").read_text())
    config["provider"] |= {"head_ip": hosts.addresses[1], "worker_ips": hosts.addresses[2:]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "/root/.ssh/id_ed25519"}
    config["setup_commands"][:2] = [f"ln -sfn {Path(sys.executable).parents[1]} ~/venv"]
    # Two CPUs a worker node and one on the head, so that no two trainers of 1.5 CPUs fit on one.
    for kind, cpus in (("head", 1), ("worker", 2)):
        commands = config[f"{kind}_start_ray_commands"]
        commands[-1] += f" --num-cpus={cpus} --object-store-memory=300000000"
    path = hosts.folder / "shared" / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_ray_up_a_job_on_two_nodes_and_ray_down(hosts: Hosts, monkeypatch):
    monkeypatch.chdir(ROOT)
    raw = ["--set", f"data.raw={real_data('ml-100k')}"]
    cluster_file(hosts)
    hosts.run(["ray", "get-auth-token", "--generate"])
    began = time.monotonic()
    hosts.run(["ray", "up", "-y", "/mnt/cluster.yaml"])
    wait_for_nodes(hosts, 3)
    print(f"ray up: 3 nodes after {time.monotonic() - began:.0f} s")

    places = ["--set=data.output=/mnt/datasets", "--set=training.output=/mnt/runs"]
    settings = [*raw, *SETTINGS, "--set=training.cpus_per_worker=1.5", *places]
    forward = subprocess.Popen(hosts.command(["ray", "dashboard", "/mnt/cluster.yaml"]), stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: hosts.run(["bash", "-c", "</dev/tcp/127.0.0.1/8265"], check=False).returncode == 0, 60)
        submit = ["mtl-ray", "submit", "train", "jobs/movielens.yaml", "--address", "http://127.0.0.1:8265", "--follow"]
        tracking = ["--set=tracking.uri=sqlite:////mnt/mlflow.db", "--json", "/mnt/cluster.json"]
        token = ["env", "RAY_AUTH_MODE=token", f"AWS_SECRET_ACCESS_KEY={PLANTED}", f"PYTHONPATH={ROOT}"]
        began = time.monotonic()
        done = hosts.run([*token, *submit, *settings, *tracking], check=False, timeout=900)
    finally:
        forward.terminate()
        forward.wait()
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"mtl-ray submit train: {time.monotonic() - began:.0f} s")
    assert len(nodes_of_trainers(hosts)) == 2, "both trainers ran on one node"
    for host in range(1, 4):
        assert not hosts.run(["grep", "-rl", PLANTED, "/tmp/ray", "/mnt"], host, check=False).stdout

    one = hosts.folder / "one"
    mtl_ray = str(Path(sys.executable).with_name("mtl-ray"))
    train = [mtl_ray, "train", "jobs/movielens.yaml", *raw, *SETTINGS, f"--set=tracking.uri=sqlite:///{one}.db"]
    places = [f"--set=data.output={one}/datasets", f"--set=training.output={one}/runs", "--json", f"{one}.json"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
    subprocess.run([*train, *places], check=True, capture_output=True, env=environment | {"PYTHONPATH": str(ROOT)})
    alone, together = (
        json.loads(file.read_text())["metrics"] for file in (Path(f"{one}.json"), hosts.folder / "shared/cluster.json")
    )
    assert alone.keys() == together.keys()
    differences = {key: abs(value - together[key]) for key, value in alone.items()}
    print(f"rating RMSE {alone['test/rating/rmse']:.4f}, {together['test/rating/rmse']:.4f}")
    print(f"largest difference of {len(alone)} metrics: {max(differences.values()):.2g}")
    assert max(differences.values()) < 1e-3, max(differences, key=lambda key: differences[key])

    hosts.run(["ray", "down", "-y", "/mnt/cluster.yaml"])
    began = time.monotonic()

    def left() -> list[str]:
        return [line for host in range(1, 4) for line in hosts.processes(host) if "ray" in line]

    # The workers end themselves when the head stays away, but for their log monitors.
    wait_for(lambda: all("log_monitor" in line for line in left()), 150)
    print(f"ray down: nothing but log monitors after {time.monotonic() - began:.0f} s")
    for host in (2, 3):
        hosts.run(["ray", "stop"], host)
    assert not left()


def wait_for_nodes(hosts: Hosts, number: int) -> None:
    end = time.monotonic() + 240
    code = "import ray; ray.init('auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    python = ["env", "RAY_AUTH_MODE=token", sys.executable, "-c", code]
    while hosts.run(python, 1, check=False).stdout.strip() != str(number):
        assert time.monotonic() < end, f"expected {number} nodes"
        time.sleep(2)


def nodes_of_trainers(hosts: Hosts) -> set[str]:
    listing = ["ray", "list", "actors", "--filter", "class_name=RayTrainWorker", "--format", "json"]
    listed = hosts.run(["env", "RAY_AUTH_MODE=token", *listing], 1).stdout
    actors = json.loads(listed[listed.index("[") :])
    print("trainers:", [(actor["node_id"][:8], actor["pid"]) for actor in actors])
    return {actor["node_id"] for actor in actors}
