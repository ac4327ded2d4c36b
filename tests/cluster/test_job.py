"""Jobs on a cluster with token authentication, submitted with the code alone: the package is not installed there."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from mlflow.tracking import MlflowClient

from tests.cluster.test_failures import LISTENING
from tests.support import OWN, TREE, wait_for, write_parts

ROOT = Path(__file__).parents[2]
STARTING = ("No available agent", "Failed to connect to Ray")
"""Answers of a cluster that has just started."""
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
"""Of a second cluster on this machine; its agent would otherwise want the port of the first, and take no job."""
PLANTED = secrets.token_hex(16)
"""In no file of the project, which is packed with its tests."""


@dataclass(frozen=True)
class Cluster:
    address: str
    sessions: Path
    """Where the cluster keeps its logs and the packages of jobs."""
    environment: dict[str, str]
    """Of those who may submit."""


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """One node whose Python has the dependencies, but not the package, and which asks for a token."""
    folder = tmp_path_factory.mktemp("cluster")
    place = folder / "python"
    venv.create(place, with_pip=False)
    packages = next(place.glob("lib/*/site-packages"))
    # A folder named in a .pth file is searched, its own .pth files (the editable install) are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    python = place / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS", "VIRTUAL_ENV")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    host_environment = environment | {"PATH": f"{python.parent}:{environment['PATH']}"}
    # Where `ray start` notes the cluster for all others to join; short, since the names of sockets are.
    host_environment["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray")
    absent = subprocess.run(
        [python, "-c", "import mtl_ray"], cwd=folder, env=host_environment, capture_output=True, check=False
    )
    assert b"ModuleNotFoundError" in absent.stderr
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    start = ["start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    command = [python, "-m", "ray.scripts.scripts", *start, *(f"--{name}={port}" for name, port in ports.items())]
    with (folder / "host.log").open("w") as log:
        host = subprocess.Popen(command, cwd=folder, env=host_environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for(lambda: host.poll() is None and answers(f"{address}/api/version"))
        yield Cluster(address, Path(host_environment["RAY_TMPDIR"]), environment | {"PYTHONPATH": str(ROOT)})
    finally:
        host.terminate()
        host.wait(60)
        shutil.rmtree(host_environment["RAY_TMPDIR"], ignore_errors=True)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code < 500
    except requests.ConnectionError:
        return False


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """An MLflow server that asks for a name and a password."""
    (tmp_path / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{tmp_path}/auth.db\n"
        f"admin_username = ann\nadmin_password = {PLANTED}\nauth_cache_ttl_seconds = 60\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    (port,) = free_ports(1)
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/served"]
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *store]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    secret = {"MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "k"}
    secret["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | secret, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: server.poll() is None and answers(f"http://127.0.0.1:{port}/health"))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def settings(folder: Path, **changes: object) -> list[str]:
    values = {
        "data.source.num_interactions": 6000,
        "data.output": folder / "datasets",
        "training.output": folder / "runs",
        "training.epochs": 1,
        **changes,
    }
    return [word for path, value in values.items() for word in ("--set", f"{path}={value}")]


def submit(cluster: Cluster, *words: str | Path) -> list[str]:
    return [sys.executable, "-c", LISTENING, "submit", *map(str, words), "--address", cluster.address]


def test_the_line_of_ray_submits_too(cluster: Cluster, tmp_path: Path):
    command = [Path(sys.executable).with_name("ray"), "job", "submit", "--address", cluster.address]
    entry = ["python", "jobs/prepare.py", "jobs/synthetic.yaml", *settings(tmp_path)]
    arguments = [*command, "--working-dir", ROOT, "--", *entry]
    for _ in range(30):
        done = subprocess.run(
            arguments, capture_output=True, check=False, text=True, cwd=tmp_path, timeout=300, env=cluster.environment
        )
        if not any(text in done.stderr for text in STARTING):
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "datasets").glob("*/quality.json"))


@pytest.mark.long
def test_a_job_trains_with_the_packed_code_and_a_planted_secret_appears_nowhere(
    cluster: Cluster, mlflow_server: str, tmp_path: Path
):
    project = tmp_path / "project"
    shutil.copytree(ROOT / "mtl_ray", project / "mtl_ray", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "jobs/synthetic.yaml", project / "shop.yaml")
    for name in (".env", "mlflow.db", ".venv/x.py", "datasets/d/x", "runs/r/x"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(PLANTED)
    known = {"MLFLOW_TRACKING_URI": mlflow_server, "MLFLOW_TRACKING_USERNAME": "ann"}
    secret = {"MLFLOW_TRACKING_PASSWORD": PLANTED, "AWS_SECRET_ACCESS_KEY": PLANTED, "MY_OWN": PLANTED}
    place = tmp_path / "shared"
    command = submit(cluster, "train", "shop.yaml", *settings(place), "--follow", "--env", "MY_OWN")
    environment = cluster.environment | known | secret
    done = subprocess.run(
        command, capture_output=True, check=False, text=True, cwd=project, timeout=550, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test rows, by segment" in done.stdout
    assert list((place / "runs").glob("*/report.html"))

    # The server, which answers nobody without the password, has the run and the model.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", PLANTED)
        client = MlflowClient(mlflow_server)
        experiment = client.get_experiment_by_name("synthetic")
        assert experiment is not None, done.stdout + done.stderr
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert len(client.search_model_versions()) == 1
    assert (
        requests.get(f"{mlflow_server}/api/2.0/mlflow/runs/get?run_id={run.info.run_id}", timeout=9).status_code == 401
    )

    assert PLANTED not in done.stdout + done.stderr
    packed = list(cluster.sessions.rglob("shop.yaml"))
    assert packed
    assert not any((file.parent / name).exists() for file in packed for name in (".env", ".venv", "mlflow.db"))
    places = (cluster.sessions, place, tmp_path / "served", tmp_path / "server.db", tmp_path / "server.log")
    files = [file for root in places for file in (root, *root.rglob("*")) if file.is_file() and not file.is_symlink()]
    assert len(files) > 50
    assert [str(file) for file in files if PLANTED.encode() in file.read_bytes()] == []


def test_a_job_finds_parts_from_a_package_beside_the_project(cluster: Cluster, tmp_path: Path):
    """The file names classes in each of its sections; `prepare` imports all, and runs the source."""
    project, beside, made = (tmp_path / name for name in ("project", "beside", "datasets"))
    shutil.copytree(ROOT / "mtl_ray", project / "mtl_ray", ignore=shutil.ignore_patterns("__pycache__"))
    write_parts(beside)
    (project / "own.yaml").write_text(json.dumps({**TREE, **OWN}))
    places = ["--set", f"data.output={made}", "--set", f"training.output={tmp_path}/runs"]
    command = submit(cluster, "prepare", "own.yaml", *places, "--follow")
    environment = cluster.environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(beside)])}
    done = subprocess.run(
        command, capture_output=True, check=False, text=True, cwd=project, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(made.glob("*/quality.json"))


def test_every_process_of_a_job_has_its_secrets(cluster: Cluster, tmp_path: Path):
    script = """
import os, ray
from mtl_ray.cluster.environment import decrypt_environment
decrypt_environment()
ray.init(log_to_driver=False)
print("driver", os.environ["MY_OWN"][::-1])
print("worker", ray.get(ray.remote(lambda: os.environ["MY_OWN"][::-1]).remote()))
"""
    client = """
import os, sys
from ray.job_submission import JobSubmissionClient
from mtl_ray.cluster.environment import SETUP_HOOK, forwarded_environment
variables = forwarded_environment(["MY_OWN"]).variables
runtime = {"working_dir": "project", "env_vars": variables, "worker_process_setup_hook": SETUP_HOOK}
print(JobSubmissionClient(sys.argv[1]).submit_job(entrypoint="python script.py", runtime_env=runtime))
"""
    shutil.copytree(ROOT / "mtl_ray", tmp_path / "project" / "mtl_ray", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "project" / "script.py").write_text(script)
    environment = cluster.environment | {"MY_OWN": PLANTED}
    submitted = subprocess.check_output(
        [sys.executable, "-c", client, cluster.address], cwd=tmp_path, env=environment, text=True
    )
    ray = [Path(sys.executable).with_name("ray"), "job", "logs", submitted.split()[-1], "--follow"]
    said = subprocess.check_output([*ray, "--address", cluster.address], env=cluster.environment, text=True)
    assert f"driver {PLANTED[::-1]}" in said
    assert f"worker {PLANTED[::-1]}" in said


def test_the_exit_code_of_the_job_is_that_of_the_command(cluster: Cluster, tmp_path: Path):
    command = submit(cluster, "train", "jobs/synthetic.yaml", *settings(tmp_path), "--resume", "no-such", "--follow")
    done = subprocess.run(
        command, capture_output=True, check=False, text=True, cwd=ROOT, timeout=200, env=cluster.environment
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--resume no-such: no such run" in done.stdout


@pytest.mark.parametrize(("token", "says"), [("f" * 64, "expected the token of this cluster"), (None, "token")])
def test_a_cluster_with_a_token_takes_no_job_without_it(token: str | None, says: str, cluster: Cluster, tmp_path: Path):
    environment = cluster.environment | ({"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"})
    command = submit(cluster, "train", "jobs/synthetic.yaml", *settings(tmp_path))
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=ROOT, timeout=100, env=environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_ctrl_c_leaves_the_job_and_a_second_one_stops_it(cluster: Cluster, tmp_path: Path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, cluster.environment[name])
    headers = {"Authorization": f"Bearer {cluster.environment['RAY_AUTH_TOKEN']}"}
    command = submit(cluster, "train", "jobs/synthetic.yaml", *settings(tmp_path, **{"training.epochs": 1000}))

    def status(job: str) -> str:
        return requests.get(f"{cluster.address}/api/jobs/{job}", headers=headers, timeout=30).json()["status"]

    for times, ends in ((1, "RUNNING"), (2, "STOPPED")):
        following = subprocess.Popen(
            [*command, "--follow"], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=cluster.environment
        )
        assert following.stdout is not None
        line = next(line for line in following.stdout if line.startswith("job: "))
        job = line.split()[1]
        wait_for(lambda job=job: status(job) == "RUNNING", 90)
        for _ in range(times):
            following.send_signal(signal.SIGINT)
            time.sleep(1)
        said, _ = following.communicate(timeout=60)
        assert following.returncode == 130, said
        assert f"ray job stop {job} --address {cluster.address}" in said
        assert status(job) == ends
        requests.post(f"{cluster.address}/api/jobs/{job}/stop", headers=headers, timeout=30)
    wait_for(lambda: status(job) == "STOPPED", 60)
