"""A search through Ray Tune: every algorithm ends, results are files and MLflow runs, what is there stays."""

import json
import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest
import ray
from ray.train._internal.session import get_session

from mtl_ray.config import Experiment, load, override
from mtl_ray.data.prepare import prepare
from mtl_ray.data.shared import share_dataset
from mtl_ray.errors import InputError
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.single_process import run_single_process
from mtl_ray.tuning.resources import max_parallel_trials
from mtl_ray.tuning.results import Tuning
from mtl_ray.tuning.run import tune
from mtl_ray.tuning.search import search
from mtl_ray.tuning.space import untuned
from mtl_ray.tuning.trial_actor import run_trial
from mtl_ray.tuning.trial_store import TrialStore
from mtl_ray.workflows.report import report
from tests.support import wait_for

RMSE, AUC = "valid/rating/rmse", "valid/click/auc"
WEIGHTS = {"tasks.*.weight": {"kind": "simplex"}}
SPACE = {
    "tasks": {"kind": "subset", "of": ["gender", "tags"]},
    "model.kind": {"kind": "choice", "values": ["shared_bottom", "mmoe"]},
    "model.experts": {"kind": "randint", "low": 2, "high": 3, "when": {"model.kind": "mmoe"}},
    **WEIGHTS,
}


@pytest.fixture(scope="module")
def searched(settings, work) -> Experiment:
    return override(
        settings,
        {
            "name": "searched",
            "training.output": str(work / "searches"),
            "training.epochs": 2,
            "training.num_workers": 1,
            "tracking.register_as": None,
            "tune": {
                "objectives": [RMSE, AUC],
                "constraints": [{"metric": RMSE, "worse_by": 0.5}],
                "space": SPACE,
                "trials": 4,
            },
        },
    )


@pytest.fixture(scope="module")
def tuned(cluster, searched, work):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        return tune(searched, echo=lambda _: None, num_refits=1)


def test_a_search_by_time_needs_no_space_and_registers_one_model(cluster, searched, work, monkeypatch):
    monkeypatch.chdir(work)
    tune_section = {"minutes": 5, "trials": 2, "ensemble": 4}
    experiment = override(searched, {"name": "timed", "tune": tune_section, "tracking.register_as": "timed"})
    found = tune(experiment, echo=lambda _: None)
    assert found.joined is not None
    assert found.joined.model_uri == "models:/timed/1"
    assert found.joined.value <= found.joined.best
    assert sum(found.joined.members.values()) <= 4
    assert found.tuning.trials[0].params["model.embedding_dropout"] == 0.0  # as without a search
    scorer = Scorer(Path(found.folder.path) / "checkpoint")
    assert scorer.score(pa.table({"user_id": ["nobody"], "item_id": ["nothing"]}))["rating"].shape == (1,)
    assert not found.folder.trial_models.exists()
    report(found.folder.location)  # again, from the files alone
    assert "without a search" in found.folder.read_text("report.html")


@pytest.fixture(scope="module")
def shared(cluster, searched):
    return share_dataset(prepare(untuned(searched)), ("train", "valid"), 1 << 30)


def children(settings: Experiment, run_id: str):
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{run_id}'")


def test_every_trial_and_reference_is_one_run_below_that_of_the_search(tuned, searched):
    runs = children(searched, tuned.run_id)
    names = [run.info.run_name.removeprefix(f"{tuned.name}/") for run in runs]
    trials = [f"trial_{n:05d}" for n in range(4)]
    refits = [name for name in names if name.startswith("searched-2")]
    assert sorted(set(names) - set(refits)) == ["alone_click", "alone_rating", "incumbent", *trials]
    assert len(names) == 7 + 1
    assert len(refits) == 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    trained = next(run for run in runs if run.info.run_name.endswith("trial_00000"))
    history = mlflow.MlflowClient(tracking_uri=searched.tracking.uri).get_metric_history(trained.info.run_id, RMSE)
    assert [metric.step for metric in history] == [1, 2]
    assert "model.kind" in trained.data.params


def test_the_best_trial_is_an_experiment_file_that_gives_its_metrics_again(tuned, searched):
    best = load(Path(tuned.folder.location) / "best.yaml")
    assert tuned.tuning.best is not None
    assert best == tuned.tuning.best_experiment()
    prepared = prepare(untuned(searched)).folder.location
    again = run_single_process(best.model_dump(mode="json", exclude_unset=True), prepared, "valid", "again", 1)[
        "metrics"
    ]
    assert {key: again[key] for key in (RMSE, AUC)} == pytest.approx(tuned.tuning.best.best_metrics, abs=1e-9)


def test_the_search_leaves_a_report_and_numbers(tuned):
    folder = Path(tuned.folder.location)
    for name in ("report.html", "pareto.png", "parallel_coordinates.png", "trials.png", "tuning.json"):
        assert (folder / name).stat().st_size > 1000, name
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    report(str(folder))
    assert (folder / "report.html").read_text() == before


def test_the_winner_is_refitted_without_validation_rows_and_becomes_a_candidate(tuned, searched):
    client = mlflow.MlflowClient(tracking_uri=searched.tracking.uri)
    version = client.get_model_version_by_alias("searched", "candidate")
    assert tuned.refitted["candidate"] == f"models:/searched/{version.version}"
    found = tuned.refitted["summary"]
    assert "test/rating/rmse" in found
    assert not [key for key in found if key.startswith("valid/")]


def test_a_search_that_ended_is_not_run_again(tuned, searched, work, monkeypatch):
    monkeypatch.chdir(work)
    files = {path: path.stat().st_mtime_ns for path in Path(tuned.folder.location).glob("*/*.json")}
    again = tune(searched, resume=tuned.name, echo=lambda _: None)
    assert again.tuning.to_dict() == tuned.tuning.to_dict()
    assert len(children(searched, tuned.run_id)) == 8
    assert {
        path: path.stat().st_mtime_ns for path in files if path.parent.name == "references"
    }.items() <= files.items()


def test_what_a_killed_driver_had_not_logged_is_logged_when_it_resumes(tuned, searched, tmp_path):
    run = Run.start(searched, "killed", Folder(str(tmp_path)))
    trial = replace(tuned.tuning.trials[0], run_id=None, logged=False, logged_epoch=0)
    run.folder.write_atomic(f"trials/{trial.name}.json", json.dumps(trial.to_dict()))
    TrialStore(searched, run, "killed", lambda _: None).close({trial.id})
    (child,) = children(searched, run.run_id)
    history = mlflow.MlflowClient(tracking_uri=searched.tracking.uri).get_metric_history(child.info.run_id, RMSE)
    assert [(metric.step, metric.value) for metric in history] == [(e, m[RMSE]) for e, m in trial.history.items()]
    assert child.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("algorithm", "scheduler"),
    [
        pytest.param("random", {"kind": "asha", "reduction": 2}, marks=pytest.mark.long),
        pytest.param("nsga2", "median", marks=pytest.mark.long),
        ("tpe", "hyperband"),
    ],
)
def test_every_searcher_and_scheduler_ends_with_all_trials(algorithm, scheduler, searched, shared, tmp_path):
    changes = {
        "tune.algorithm": algorithm,
        "tune.scheduler": scheduler,
        "tune.objectives": RMSE,
        "tune.constraints": [],
        "training.epochs": 3,
    }
    trials = found(override(searched, changes), shared, tmp_path)
    assert len(trials) == 4
    assert {trial.state for trial in trials} <= {"finished", "stopped"}
    assert any(trial.state == "finished" and max(trial.history) == 3 for trial in trials)


def begins_with_another(params: dict[str, Any], common: dict[str, Any]) -> None:
    """Instead of `run_trial`: the first two trials begin together, so that one has another to copy from."""
    place = Path(common["storage"]).parent / "begun"
    place.mkdir(parents=True, exist_ok=True)
    (place / uuid.uuid4().hex).touch()
    wait_for(lambda: len(list(place.iterdir())) > 1)
    run_trial(params, common)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # PB2 on a handful of values
@pytest.mark.parametrize("algorithm", ["pbt", pytest.param("pb2", marks=pytest.mark.long)])
def test_the_schedule_of_a_population_gives_the_same_metric_when_replayed(
    algorithm, searched, shared, tmp_path, monkeypatch
):
    monkeypatch.setattr("mtl_ray.tuning.search.run_trial", begins_with_another)
    changes = {
        "tune.space": {**WEIGHTS, "training.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2}},
        "tune.algorithm": {"kind": algorithm, "quantile": 0.5},
        "tune.objectives": RMSE,
        "tune.constraints": [],
        "tune.trials": 4,
        "training.epochs": 4,
    }
    settings = override(searched, changes)
    trials = found(settings, shared, tmp_path)
    scheduled = [t for t in trials if any(len(w) > 1 for w in t.changes["balancing"]["weights"].values())]
    assert scheduled  # some trial took over another's weights and changed them
    for trial in (scheduled[0], Tuning(settings, trials, {}).best):
        replayed = override(untuned(settings), trial.changes)
        assert replayed.balancing.kind == "scheduled"
        tree = replayed.model_dump(mode="json", exclude_unset=True)
        again = run_single_process(tree, shared.prepared.folder.location, "valid", "again", 1)["metrics"]
        assert again[RMSE] == pytest.approx(trial.best_metrics[RMSE], abs=1e-9)


def found(settings: Experiment, shared, folder: Path):
    """The trials of a search without references."""
    run = Run.start(settings, folder.name, Folder(str(folder)))
    return search(settings, shared, run, folder.name, {})


@pytest.mark.long
def test_trials_of_several_workers_report_what_one_worker_does_and_leave_none_when_stopped(searched, shared, tmp_path):
    changes = {
        "tune.space": WEIGHTS,
        "tune.objectives": {RMSE: "min"},  # by it the second of the two trials is the worse one
        "tune.algorithm": "random",
        "tune.scheduler": {"kind": "asha", "reduction": 2},
        "tune.constraints": [],
        "tune.trials": 2,
        "training.num_workers": 2,
        "training.cpus_per_worker": 1.0,
    }
    settings = override(searched, changes)
    assert max_parallel_trials(settings) == 1  # of two trials that run at once each might wait for the other's workers
    trials = found(settings, shared, tmp_path)
    assert [trial.state for trial in trials] == ["finished", "stopped"]
    wait_for(lambda: ray.available_resources().get("CPU") == 2)
    for trial in trials:
        tree = override(untuned(searched), trial.changes).model_dump(mode="json", exclude_unset=True)
        alone = run_single_process(tree, shared.prepared.folder.location, "valid", "alone", 1)["history"]
        expected = {metrics["epoch"]: metrics[RMSE] for metrics in alone if metrics["epoch"] in trial.history}
        assert {epoch: m[RMSE] for epoch, m in trial.history.items()} == pytest.approx(expected, abs=1e-9)


def dies_as_it_takes_up_a_second_trial(params: dict[str, Any], common: dict[str, Any]) -> None:
    """Instead of `run_trial`: the process that ends the first trial of all dies when it is given another."""
    run_trial(params, common)
    mark = Path(common["storage"]).parent / "died"
    if not mark.exists():
        mark.touch()
        get_session().reset = lambda **_: os._exit(1)


def test_a_trial_whose_process_died_before_it_began_is_begun_again(searched, shared, tmp_path, monkeypatch):
    monkeypatch.setattr("mtl_ray.tuning.search.run_trial", dies_as_it_takes_up_a_second_trial)
    changes = {"tune.objectives": RMSE, "tune.constraints": [], "tune.trials": 4}
    trials = found(override(searched, changes), shared, tmp_path)
    assert [(trial.state, len(trial.history)) for trial in trials] == [("finished", 2)] * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune.gpus_per_trial": 1}, "tune.gpus_per_trial: expected at most the 0 GPUs of the largest node .* found 1"),
        ({"training.num_workers": 5}, "training.num_workers: expected at most the 4 workers of 0.5 CPUs .* found 5"),
    ],
)
def test_a_trial_that_no_node_has_room_for_is_refused_before_any_work(changes, message, cluster, searched, tmp_path):
    greedy = override(searched, {**changes, "data.output": str(tmp_path / "datasets")})
    with pytest.raises(InputError, match=message):
        tune(greedy, echo=lambda _: None)
    assert not (tmp_path / "datasets").exists()


def test_a_training_that_diverges_is_a_failed_trial_not_a_failed_search(searched, shared, tmp_path):
    changes = {
        "tune.space": {"training.optimizer.lr": {"kind": "uniform", "low": 1e150, "high": 1e200}},
        "training.optimizer.kind": "sgd",
        "tune.trials": 2,
    }
    trials = found(override(searched, changes), shared, tmp_path)
    assert [trial.state for trial in trials] == ["failed", "failed"]
    assert "is not finite" in str(trials[0].failure)
    assert Tuning(searched, trials, {}).best is None
