"""`ray job submit` with the code alone: the package is not installed where the job runs."""

import os
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = """
import sys, ray
context = ray.init(num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level="warning")
print(context.dashboard_url, flush=True)
sys.stdin.read()
ray.shutdown()
"""


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
    absent = subprocess.run(
        [python, "-c", "import mtl_ray"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert b"ModuleNotFoundError" in absent.stderr
    host = subprocess.Popen(
        [python, "-c", HOST], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        yield f"http://{host.stdout.readline().strip()}"
    finally:
        host.stdin.close()
        host.wait(60)
        host.stdout.close()


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
        if "No available agent" not in done.stderr:  # the cluster has just started
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test rows, by segment" in done.stdout
    assert list((tmp_path / "runs").glob("*/report.md"))
