"""A training of an ensemble: one registered model, the same on any number of workers, and after any interruption."""

import os
import signal
import threading
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import ray
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.models import checkpoint
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.runs.train import Trained, train
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.registry import checkpoint_folder
from tests.cluster.test_failures import assert_same
from tests.support import small_experiment, wait_for

UNKNOWN = pd.DataFrame({"user_id": ["nobody", "u1"], "item_id": ["nothing", "i1"], "age": [30.0, None]})


@pytest.fixture(scope="module")
def experiment(cluster, work: Path) -> Experiment:
    return small_experiment(
        data__output=str(work / "datasets"),
        training__output=str(work / "ensembles"),
        training__ensemble=3,
        training__epochs=3,
        training__early_stopping={},
        tracking__uri=f"sqlite:///{work}/mlflow.db",
        tracking__register_as="three",
    )


@pytest.fixture(scope="module")
def trained(experiment: Experiment) -> Trained:
    return train(experiment, echo=lambda _: None)


def children(experiment: Experiment, run_id: str | None) -> dict[str, mlflow.entities.Run]:
    client = mlflow.MlflowClient(tracking_uri=experiment.tracking.uri)
    below = f"tags.`mlflow.parentRunId` = '{run_id}'"
    found = client.search_runs([client.get_run(str(run_id)).info.experiment_id], below)
    return {run.info.run_name or "": run for run in found}


def test_it_is_one_registered_model_of_three_members(experiment: Experiment, trained: Trained):
    client = mlflow.MlflowClient(tracking_uri=experiment.tracking.uri)
    assert len(client.search_model_versions("name = 'three'")) == 1
    folder = checkpoint_folder("models:/three/1", str(experiment.tracking.uri))
    assert_same(trained.checkpoint, folder)
    assert not list(folder.rglob(checkpoint.TRAINER))
    scores, spread = Scorer(folder).score_with_spread(_table(UNKNOWN))
    mlflow.set_tracking_uri(str(experiment.tracking.uri))
    model = mlflow.pyfunc.load_model("models:/three/1")
    np.testing.assert_allclose(model.predict(UNKNOWN).rating, scores["rating"])
    told = model.predict(UNKNOWN, params={"uncertainty": True})
    np.testing.assert_allclose(told.rating_std, spread["rating"])


def assert_close(one: Path, other: Path) -> None:
    """The weights are equal up to rounding: other numbers of threads sum in another order."""
    expected = checkpoint.load(other).model.state_dict()
    for name, value in checkpoint.load(one).model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-9)


def _table(frame: pd.DataFrame):
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


def test_members_are_child_runs_and_leave_nothing_else(experiment: Experiment, trained: Trained):
    found = children(experiment, trained.run_id)
    assert {name: run.info.status for name, run in found.items()} == {
        f"{trained.name}-member{number}": "FINISHED" for number in (1, 2, 3)
    }
    assert not trained.folder.members.exists()
    assert not list(Path(trained.folder.path).rglob(checkpoint.TRAINER))
    members = trained.folder.read_members()
    assert members[0].seed == experiment.seed
    assert len({each.seed for each in members}) == 3
    assert trained.folder.read_history()
    assert "Members of the ensemble" in trained.folder.read_text("report.html")


@pytest.mark.long
def test_the_first_member_is_the_model_without_the_others(experiment: Experiment, trained: Trained):
    alone = override(experiment, {"training.ensemble": 1, "tracking.register_as": None})
    assert_close(train(alone, echo=lambda _: None).checkpoint, trained.checkpoint / "members/1")


@pytest.mark.long
def test_on_two_workers_it_is_the_same(experiment: Experiment, trained: Trained):
    two = override(experiment, {"training.num_workers": 2, "tracking.register_as": None})
    other = train(two, echo=lambda _: None)
    assert_close(other.checkpoint, trained.checkpoint)
    assert other.evaluation.metrics == pytest.approx(trained.evaluation.metrics, abs=1e-8)


def new_run(runs: str, before: set[str]) -> str:
    (name,) = {path.name for path in Path(runs).iterdir()} - before
    return name


@pytest.mark.long
def test_one_that_is_stopped_goes_on_and_trains_no_member_twice(experiment: Experiment, trained: Trained):
    before = {path.name for path in Path(experiment.training.output).iterdir()}

    def stop(line: str) -> None:
        if line.endswith("has ended"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment, echo=stop)
    name = new_run(experiment.training.output, before)
    folder = RunFolder.of(experiment, name)
    ended = [n for n in (1, 2, 3) if RunFolder(f"{folder.members}/{n}").read_members()]
    assert ended
    assert 3 not in ended  # two at once have room, and what waits does not begin
    assert ray.available_resources()["CPU"] == 2
    said: list[str] = []
    resumed = train(experiment, resume=name, echo=said.append)
    assert f"training {3 - len(ended)} of 3 members" in "\n".join(said)
    assert_same(trained.checkpoint, resumed.checkpoint)
    assert resumed.evaluation.metrics == pytest.approx(trained.evaluation.metrics, abs=1e-12)
    client = mlflow.MlflowClient(tracking_uri=experiment.tracking.uri)
    for number in ended:
        run = children(experiment, resumed.run_id)[f"{name}-member{number}"]
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/click/loss")]
        assert len(steps) == len(set(steps))


@pytest.mark.long
def test_ctrl_c_ends_all_members(experiment: Experiment, trained: Trained):
    slow = override(experiment, {"training.epochs": 300, "training.early_stopping": None})
    before = {path.name for path in Path(experiment.training.output).iterdir()}
    runs = Path(experiment.training.output)

    def interrupt() -> None:
        wait_for(lambda: [p for p in runs.glob("*/members/*/history.json") if p.parts[-4] not in before])
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before_test = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(slow, echo=lambda _: None)
    finally:
        signal.signal(signal.SIGINT, before_test)
    thread.join()
    wait_for(lambda: ray.available_resources().get("CPU") == 2, 30)
    name = new_run(experiment.training.output, before)
    run_id = RunFolder.of(experiment, name).read_record().run_id
    found = children(experiment, run_id)
    assert found
    assert {run.info.status for run in found.values()} == {"KILLED"}


def test_the_error_of_a_member_ends_the_run(experiment: Experiment, trained: Trained):
    diverging = override(experiment, {"training.optimizer": {"kind": "sgd", "lr": 1e30}, "training.epochs": 100})
    with pytest.raises(FloatingPointError):
        train(diverging, echo=lambda _: None)
    wait_for(lambda: ray.available_resources().get("CPU") == 2, 30)


@pytest.mark.long
def test_the_number_of_epochs_is_chosen_once_for_all(experiment: Experiment):
    without = {"kind": "random", "valid": 0.0}
    changes = {"data.split": without, "training.ensemble": 2, "training.epochs": 4, "tracking.register_as": None}
    trained = train(override(experiment, changes), echo=lambda _: None)
    epochs = trained.folder.read_epochs()
    assert {(member.kept, member.epochs) for member in trained.folder.read_members()} == {(epochs, epochs)}
    names = {name.removeprefix(trained.name) for name in children(experiment, trained.run_id)}
    assert names == {"-holdout", "-member1", "-member2"}
    assert checkpoint.load(trained.checkpoint).noise == {}
    assert "There is no interval to check" in trained.folder.read_text("report.html")
