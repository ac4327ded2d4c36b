"""`ray job submit` with the code alone: the package is not installed where the job runs."""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTING = ("No available agent", "Failed to connect to Ray")
"""Answers of a cluster that has just started."""
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
"""Of a second cluster on this machine; its agent would otherwise want the port of the first, and take no job."""


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def cluster_without_the_package(tmp_path: Path):
    """Address of the dashboard of a one-node cluster whose Python has the dependencies, but not the package."""
    place = tmp_path / "python"
    venv.create(place, with_pip=False)
    packages = next(place.glob("lib/*/site-packages"))
    # A folder named in a .pth file is searched, its own .pth files (the editable install) are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    python = place / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS", "VIRTUAL_ENV")}
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    # Where `ray start` notes the cluster for all others to join; short, since the names of sockets are.
    environment["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray")
    absent = subprocess.run(
        [python, "-c", "import mtl_ray"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert b"ModuleNotFoundError" in absent.stderr
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    start = ["start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    command = [python, "-m", "ray.scripts.scripts", *start, *(f"--{name}={port}" for name, port in ports.items())]
    with (tmp_path / "host.log").open("w") as log:
        host = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{ports['dashboard-port']}"
    finally:
        host.terminate()
        host.wait(60)
        shutil.rmtree(environment["RAY_TMPDIR"], ignore_errors=True)


def test_a_job_trains_with_the_submitted_code(cluster_without_the_package: str, tmp_path: Path):
    changes = {
        "data.source.num_interactions": 6000,
        "data.output": tmp_path / "datasets",
        "training.output": tmp_path / "runs",
        "training.epochs": 1,
        "tracking.uri": f"sqlite:///{tmp_path}/mlflow.db",
    }
    settings = [argument for path, value in changes.items() for argument in ("--set", f"{path}={value}")]
    command = [Path(sys.executable).with_name("ray"), "job", "submit", "--address", cluster_without_the_package]
    entry = ["python", "jobs/train.py", "jobs/synthetic.yaml", *settings]
    arguments = [*command, "--working-dir", ROOT, "--", *entry]
    for _ in range(30):
        done = subprocess.run(arguments, capture_output=True, check=False, text=True, cwd=tmp_path, timeout=300)
        if not any(text in done.stderr for text in STARTING):
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test rows, by segment" in done.stdout
    assert list((tmp_path / "runs").glob("*/report.html"))
