"""MLflow takes every name, and what it does not take is told entry by entry."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from mtl_ray.config import parse
from mtl_ray.storage import Folder
from mtl_ray.tracking.entries import metric_key, param_key
from mtl_ray.tracking.tracked_run import LOST, UNLOGGED, Run, lost_entries
from tests.support import TREE

NAMES = ["click (€)", "a,b=c&d", "was?", "[x]", "a\nb", "x" * 300, "naïve", "点击", "a'b\"c", "50%", "#1", "~", "\t"]


@pytest.mark.parametrize("name", NAMES)
def test_any_task_and_feature_name_becomes_a_key_that_mlflow_takes(name: str):
    _validate_metric_name(metric_key(f"valid/{name}/ndcg@10/new_user"))
    _validate_param_name(param_key(f"features.{name}.kind"))
    assert len(metric_key(f"valid/{name}/auc")) <= 250


def test_names_stay_apart_and_good_ones_as_they_are():
    keys = [metric_key(f"valid/{name}/auc") for name in [*NAMES, "x" * 299, "click (E)", "click"]]
    assert len(set(keys)) == len(keys)
    for key in ("valid/click/auc/new_user", "test/long view/ndcg_at_10", "train/a:b/loss", "valid/naïve/auc"):
        assert metric_key(key) == key
    assert metric_key("valid/a/ndcg@10/user_support_20+") == "valid/a/ndcg_at_10/user_support_20_plus"
    assert param_key("compare.vary.*.dim") == "compare.vary.each.dim"


@pytest.mark.parametrize("key", ["valid//auc", "a/./b", "a/../b", "..", "/x", "x/"])
def test_a_key_names_no_other_file(key: str):
    _validate_metric_name(metric_key(key))


def experiment(name: str, uri: str) -> Any:
    tree = TREE | {"tasks": {name: {"kind": "binary", "column": "click"}}, "tracking": {"uri": uri}}
    return parse(tree, "test")


def test_parameters_and_metrics_of_a_task_with_an_odd_name_are_all_logged(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run = Run.start(experiment("click (€)", uri), "run", Folder(str(tmp_path / "run")))
        run.log_experiment(experiment("click (€)", uri), None)
        run.log_metrics({"valid/click (€)/auc": 0.5, "valid/loss": 1.0}, 1)
        run.finish("FINISHED")
    found = MlflowClient(uri).get_run(run.required_id())
    assert found.data.metrics == {"valid/click _x28__x20ac__x29_/auc": 0.5, "valid/loss": 1.0}
    assert found.data.params["tasks.click _x28__x20ac__x29_.kind"] == "binary"
    assert lost_entries(run.folder) == []


class Strict:
    """A server that refuses one key, and knows no batch with it."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def log_batch(self, _: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        entries = [*metrics, *params, *tags]
        if any(entry.key == "bad" for entry in entries):
            raise MlflowException("a bad key\nand more", INVALID_PARAMETER_VALUE)
        self.taken += [entry.key for entry in entries]


def test_after_a_refusal_entries_are_sent_one_by_one_and_the_lost_one_is_told(tmp_path: Path, monkeypatch):
    server, run = Strict(), Run("http://server", "id", Folder(str(tmp_path)))
    monkeypatch.setattr(Run, "client", server)
    with pytest.warns(UserWarning, match="refused the metric bad: a bad key"):
        run.log_metrics({"good": 1.0, "bad": 2.0, "better": 3.0}, 1)
    assert server.taken == ["good", "better"]
    assert not run.folder.exists(UNLOGGED), "it would be refused again"
    assert lost_entries(run.folder) == ["metric bad: a bad key"]


def test_what_a_server_that_is_away_misses_is_kept_or_told(tmp_path: Path, monkeypatch):
    def away(*_: Any, **__: Any) -> None:
        raise MlflowException("no answer", TEMPORARILY_UNAVAILABLE)

    run = Run("http://server", "id", Folder(str(tmp_path)))
    monkeypatch.setattr(Run, "client", SimpleNamespace(log_batch=away, log_artifact=away))
    with pytest.warns(UserWarning, match="could not log metrics: no answer"):
        run.log_metrics({"good": 1.0}, 1)
    with pytest.warns(UserWarning, match="could not log quality.json: no answer"):
        run.log_file("quality.json", "{}")
    assert lost_entries(run.folder) == [
        "could not log quality.json: no answer",
        f"metrics, which are in {run.folder}/{UNLOGGED}",
    ]
    parent = Run("http://server", "id", Folder(str(tmp_path / "parent")))
    parent.adopt_lost(run.folder, "seed3")
    parent.adopt_lost(run.folder, "seed3")
    told = parent.folder.read_text(LOST).splitlines()
    assert told[0] == "seed3: could not log quality.json: no answer"
    assert len(told) == 2, "each is told once"
