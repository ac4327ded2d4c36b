import copy
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler._private.util import prepare_config, validate_config

from mtl_ray.cluster.archive import NEVER

ROOT = Path(__file__).parents[3]
LAUNCHED = ("cluster.yaml", "jobs/cluster-local.yaml")
KUBERNETES = ("jobs/kubernetes/raycluster.yaml", "jobs/kubernetes/rayjob.yaml")


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def validate(config):
    validate_config(prepare_config(copy.deepcopy(config)))


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_the_cluster_file(name):
    validate(read(name))


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_misspelt_key_would_be_refused(name):
    with pytest.raises(ValidationError, match="setup_comands"):
        validate(read(name) | {"setup_comands": []})


def test_the_cloud_has_a_cpu_head_a_spot_gpu_group_and_a_cpu_group_that_grow_from_none():
    types = read("cluster.yaml")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    workers = {name: group for name, group in types.items() if name != "head"}
    assert {group["min_workers"] for group in workers.values()} == {0}
    assert {group["node_config"]["InstanceMarketOptions"]["MarketType"] for group in workers.values()} == {"spot"}
    assert types["gpu"]["node_config"]["InstanceType"].startswith("g")


def test_every_worker_has_an_address():
    config = read("jobs/cluster-local.yaml")
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize("name", LAUNCHED)
def test_ports_are_on_loopback_or_guarded_by_a_token(name):
    config = read(name)
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token' >> ~/.bashrc" in config["setup_commands"][-1]  # which every command reads first
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "security_group" not in config["provider"]  # Ray's own opens port 22 alone


@pytest.mark.parametrize("name", LAUNCHED)
def test_what_is_never_packed_is_not_copied_to_the_nodes_either(name):
    never = {str(each.pattern).rstrip("/") for each in NEVER.patterns}
    assert len(never) > 30
    secrets = {line.rstrip("/") for line in (ROOT / ".rayignore").read_text().splitlines() if not line.startswith("#")}
    assert never <= {pattern.removeprefix("**/") for pattern in read(name)["rsync_exclude"]} | secrets
    assert ".rayignore" in read(name)["rsync_filter"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_room_called_runs_is_copied_to_the_nodes_whatever_is_ignored(name):
    """Rsync takes the first rule that matches, and Ray puts these before those of .gitignore."""
    assert read(name)["rsync_exclude"][0] == "+ /mtl_ray/runs/"
    assert "/runs" in read(name)["rsync_exclude"]


SENT = ("mtl_ray/runs/train.py", "jobs/train.yaml", ".gitignore", ".rayignore")
KEPT = (".venv/bin/python", ".env", "jobs/prod.env", "mlflow.db", "datasets/a/schema.json", "runs/a-run/run.json")
KEPT += ("mtl_ray/runs/.env", "a.pem", "auth_token", "deep/id_ed25519", ".ssh/id_rsa", ".aws/credentials")


def rsynced(name: str, source: Path, target: Path) -> set[str]:
    """Copy as Ray does; returns what arrived."""
    options = SSHCommandRunner._create_rsync_filter_args(None, read(name))  # pyright: ignore[reportArgumentType]
    place = f"{source}/" if source.is_dir() else str(source)
    subprocess.run(["rsync", "-a", *options, place, f"{target}/"], check=True)
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")
@pytest.mark.parametrize("name", LAUNCHED)
def test_rsync_copies_the_code_and_no_environment_data_or_secret(name, tmp_path):
    for file in (*SENT, *KEPT):
        (tmp_path / "from" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / file).write_text("runs/\n")
    shutil.copy(ROOT / ".rayignore", tmp_path / "from")
    assert rsynced(name, tmp_path / "from", tmp_path / "to") == set(SENT)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")
@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize("file", ["auth_token", "id_ed25519", "id_rsa", "mine.pem", "ray_bootstrap_key.pem"])
def test_rsync_copies_the_token_and_the_key_that_the_nodes_need(name, file, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / file).touch()
    assert rsynced(name, tmp_path / "home" / file, tmp_path / "node") == {file}


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_package_is_installed_from_the_constraints(name):
    assert "--constraint ~/mtl_ray/constraints.txt" in " ".join(read(name)["setup_commands"])


@pytest.fixture(scope="module")
def kuberay():
    schema = read("tests/unit/kuberay.yaml")
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", KUBERNETES)
def test_kuberay_accepts_the_file(name, kuberay):
    kuberay.validate(read(name))


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_files_are_of_this_ray_and_guarded_by_a_token(name):
    spec = read(name)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


def break_worker(tree):
    del tree["spec"]["workerGroupSpecs"][0]["template"]


def break_key(tree):
    tree["spec"]["headGroupSpecs"] = tree["spec"].pop("headGroupSpec")


def break_type(tree):
    tree["spec"]["workerGroupSpecs"][0]["replicas"] = "two"


@pytest.mark.parametrize("breaking", [break_worker, break_key, break_type])
def test_a_broken_kubernetes_file_would_be_refused(breaking, kuberay):
    tree = read("jobs/kubernetes/raycluster.yaml")
    breaking(tree)
    with pytest.raises(ValidationError):
        kuberay.validate(tree)


@pytest.mark.parametrize("name", ["jobs/kubernetes/rayjob.yaml"])
def test_the_job_of_kubernetes_names_a_command_of_this_package(name):
    words = re.sub(r"\s+", " ", read(name)["spec"]["entrypoint"]).split()
    assert words[:4] == ["python", "-m", "mtl_ray.cli", "train"]
    assert (ROOT / words[4].removeprefix("mtl_ray/")).is_file()
