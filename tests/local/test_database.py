"""Processes that meet a folder without MLflow's database at the same moment all find a whole one."""

import ast
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

import mtl_ray
from mtl_ray.file_lock import HeldError, lock_file
from mtl_ray.tracking.database import SQLITE, _make_database, client_of, use_server

BEGIN = """
import sys
from mtl_ray.tracking.database import client_of
sys.stdin.readline()  # both begin together
client = client_of("sqlite:///mlflow.db")
client.create_run(client.create_experiment(sys.argv[1]))
"""


def test_two_processes_at_once_make_one_database(tmp_path: Path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN, name], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    names = {experiment.name for experiment in client_of(f"{SQLITE}{tmp_path}/mlflow.db").search_experiments()}
    assert names == {"Default", "one", "two"}


def connections(path: Path) -> list[str]:
    """Return the calls in a file by which MLflow would connect to a store."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    names = (ast.unparse(function).rpartition(".")[2] for function in calls)
    return [name for name in names if name in ("MlflowClient", "set_tracking_uri", "set_registry_uri")]


def test_one_module_alone_connects_to_mlflow():
    package = Path(mtl_ray.__file__).parent
    found = {str(path.relative_to(package)): calls for path in package.rglob("*.py") if (calls := connections(path))}
    assert list(found) == ["tracking/database.py"], found
    assert set(found["tracking/database.py"]) == {"MlflowClient", "set_tracking_uri"}


def test_mlflow_s_own_functions_find_a_whole_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mlflow, "set_tracking_uri", lambda uri: None)
    use_server(f"{SQLITE}{tmp_path}/mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_database_is_left_as_it_is_and_so_are_servers(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("mine")
    for uri in (f"{SQLITE}{tmp_path}/mlflow.db", "http://server", "sqlite:///:memory:", "sqlite://"):
        _make_database(uri)
    assert (tmp_path / "mlflow.db").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_lock_is_held_by_one(tmp_path: Path):
    release = lock_file(tmp_path / "lock", "me")
    assert release is not None
    with pytest.raises(HeldError, match="me"):
        lock_file(tmp_path / "lock")
    release()
    again = lock_file(tmp_path / "lock", wait=True)
    assert again is not None
    again()
    assert list(tmp_path.iterdir()) == []
