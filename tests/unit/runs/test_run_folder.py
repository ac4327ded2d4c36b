"""The files of a run are those that earlier versions wrote, so that their runs can be resumed and reported on."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl_ray.errors import InputError
from mtl_ray.evaluation.spread import SpreadCheck
from mtl_ray.evaluation.uncertainty import Bin
from mtl_ray.inference.evaluate import Evaluation
from mtl_ray.reporting.html import REPORT_FILE, HtmlReport
from mtl_ray.runs.records import TrainedMember
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tracking.tracked_run import LOST, UNLOGGED, Run
from mtl_ray.tuning.trial_store import Trial, read_trials
from tests.support import small_experiment

OLD_TRIAL = {
    "id": "abc",
    "number": 3,
    "params": {"training.optimizer.lr": 0.1},
    "state": "finished",
    "changes": {},
    "history": {"1": {"valid/rating/rmse": 1.0}},
    "kept": {"valid/rating/rmse": 0.9},
    "kept_epoch": 1,
    "reports": {"1": {"valid/rating/rmse": 0.9}},
    "seconds": 2.0,
    "failure": None,
    "run_id": None,
    "logged_epoch": 0,
    "logged": False,
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    experiment = small_experiment(training__output=str(tmp_path))
    return RunFolder.of(experiment, "a-run")


def test_files_have_the_names_and_the_form_that_they_have_always_had(folder: RunFolder):
    experiment, run = small_experiment(), Run("http://127.0.0.1:9", "id", folder)
    folder.write_record("train", experiment, run, "/data")
    folder.write_history({1: {"valid/rating/rmse": 1.0}})
    folder.write_evaluation(Evaluation({"a": 1.0}, {"constant": {}}), "models:/m/1")
    folder.write_daily_steps({"start": None})
    folder.grid_runs.write("multi@5/b-seed2", {"seconds": 1.0})
    folder.references.write("incumbent", {"seconds": 1.0})
    folder.refits.write("seed3", {"seconds": 1.0})
    folder.trials.write("trial_00003", OLD_TRIAL)
    root = Path(folder.path)
    tree = {
        "command": "train",
        "experiment": experiment.model_dump(mode="json"),
        "dataset": "/data",
        "tracking_uri": "http://127.0.0.1:9",
        "run_id": "id",
    }
    evaluation = {"metrics": {"a": 1.0}, "baselines": {"constant": {}}, "intervals": {}, "calibration": {}}
    result = json.dumps({"seconds": 1.0}, indent=2)
    assert {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.*")} == {
        "run.json": json.dumps(tree, indent=2) + "\n",
        "history.json": '{"1": {"valid/rating/rmse": 1.0}}',
        "evaluation.json": json.dumps({"model_uri": "models:/m/1", **evaluation}, indent=2),
        "daily.json": '{\n  "start": null\n}\n',
        "cells/multi@5/b-seed2.json": result,
        "references/incumbent.json": result,
        "refit/seed3.json": result,
        "trials/trial_00003.json": json.dumps(OLD_TRIAL),
    }


def test_every_report_ends_with_what_mlflow_lacks_once_what_was_kept_is_sent(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
):
    sent: list[str] = []
    server = SimpleNamespace(
        log_batch=lambda _, metrics: sent.extend(metric.key for metric in metrics),
        log_artifact=lambda _, path: sent.append(Path(path).name),
    )
    monkeypatch.setattr(Run, "client", server)
    run = Run("http://server", "id", folder)
    folder.create()
    folder.keep_report(HtmlReport("whole"), run)
    assert "MLflow lacks" not in folder.read_text(REPORT_FILE)
    folder.write_atomic(LOST, "metric <bad>: refused\n")
    folder.write_atomic(UNLOGGED, '{"step": 1, "time": 1, "metrics": {"valid/loss": 0.5}}\n')
    folder.keep_report(HtmlReport("in part"), run)
    told = folder.read_text(REPORT_FILE)
    assert told.index("What MLflow lacks of this run") < told.index("metric &lt;bad&gt;: refused")
    assert sent == [REPORT_FILE, "valid/loss", REPORT_FILE]
    assert UNLOGGED not in told, "what was kept was sent before"


def test_what_was_written_is_read_again(folder: RunFolder):
    assert not folder.has_record
    assert not folder.has_evaluation
    assert (folder.read_history(), folder.read_daily_steps(), folder.trials.read_all()) == ({}, {}, [])
    folder.write_record("train", small_experiment(), Run("http://127.0.0.1:9", None, folder), "/data")
    record = folder.read_record()
    assert record.parse_experiment() == small_experiment()
    assert record.tracked_run(folder).run_id is None
    evaluation = Evaluation({"a": 1.0}, {"constant": {"a": 2.0}}, calibration={"rating": [Bin(1.0, 2.0, 0.1, 7)]})
    spread = {"rating/warm": SpreadCheck(7, 0.1, 0.9, None)}
    for written in (evaluation, replace(evaluation, spread=spread)):
        folder.write_evaluation(written, None)
        assert folder.read_evaluation() == (written, None)
    members = [TrainedMember(3, 1, 2, "checkpoint_1"), TrainedMember(99, 2, 2, "checkpoint_2")]
    assert folder.read_members() == []
    folder.write_members(members)
    assert folder.read_members() == members
    folder.write_history({2: {"a": 1.0}})
    assert folder.read_history() == {2: {"a": 1.0}}


def test_a_trial_of_an_earlier_version_is_read_and_written_alike(folder: RunFolder):
    folder.trials.write("trial_00003", OLD_TRIAL)
    (trial,) = read_trials(folder)
    assert (trial.best_metrics, trial.best_epoch, list(trial.history)) == ({"valid/rating/rmse": 0.9}, 1, [1])
    assert json.loads(json.dumps(trial.to_dict())) == OLD_TRIAL
    assert list(trial.to_dict()) == list(OLD_TRIAL)
    assert trial.last_report()["kept"] == {"valid/rating/rmse": 0.9}
    assert Trial.from_dict({"id": "x", "number": 0, "params": {}, "history": {}, "reports": {}}).best_epoch == 0


def test_only_a_run_of_the_same_command_and_experiment_is_resumed(folder: RunFolder):
    experiment = small_experiment()
    with pytest.raises(InputError, match="--resume a-run: no such run under"):
        folder.record_to_resume("train", experiment)
    folder.write_record("train", experiment, Run("http://127.0.0.1:9", "id", folder))
    assert folder.record_to_resume("train", experiment).run_id == "id"
    with pytest.raises(InputError, match="expected a run of `tune`; it is one of `train`"):
        folder.record_to_resume("tune", experiment)
    with pytest.raises(InputError, match="differs from that of the run in seed, training;"):
        folder.record_to_resume("train", small_experiment(seed=9, training__epochs=7))
