"""What MLflow is told, and what a server that is away, slow or shared changes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.exceptions import MlflowException

from mtl_ray.runs.lifecycle import new_name
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import UNLOGGED, Run, git_commit
from tests.support import small_experiment


def test_mlflow_prints_no_address_which_may_have_a_password():
    assert MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()


def test_at_the_end_nothing_is_tried_after_the_first_that_fails_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, tried = Run("http://127.0.0.1:9", "id", Folder(str(tmp_path))), []
    lines = [json.dumps({"step": step, "time": 0, "metrics": {}}) + "\n" for step in range(5)]
    (tmp_path / UNLOGGED).write_text("".join(lines))

    def log_again(_: Run, entry: dict[str, Any]) -> bool:
        tried.append(entry["step"])
        return entry["step"] < 2

    monkeypatch.setattr(Run, "_log_again", log_again)
    monkeypatch.setattr(Run, "client", SimpleNamespace(set_terminated=lambda *_: None))
    run.finish("FINISHED")
    assert tried == [0, 1, 2]
    assert (tmp_path / UNLOGGED).read_text() == "".join(lines[2:])


def test_an_experiment_that_another_process_makes_at_the_same_moment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Client:
        def __init__(self) -> None:
            self.known: list[str] = []

        def get_experiment_by_name(self, name: str) -> Any:
            return SimpleNamespace(experiment_id="7") if name in self.known else None

        def create_experiment(self, name: str, **_: Any) -> str:
            self.known.append(name)
            raise MlflowException("it exists")

        def create_run(self, experiment_id: str, **_: Any) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id=f"run of {experiment_id}"))

    monkeypatch.setattr(Run, "client", Client())
    assert Run.start(small_experiment(), "name", Folder(str(tmp_path))).run_id == "run of 7"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_two_runs_of_one_second_have_two_names():
    assert len({new_name(small_experiment()) for _ in range(8)}) > 1
