"""A training that first chooses its number of epochs on held-out rows: what it leaves, and that it can be resumed."""

from pathlib import Path

import mlflow
import pytest

from mtl_ray.config import Experiment
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.runs.train import Trained, train
from tests.cluster.test_failures import assert_same
from tests.support import small_experiment

MOMENTS = ("choosing the number of epochs", "training on all rows")


@pytest.fixture(scope="module")
def experiment(cluster, work: Path) -> Experiment:
    return small_experiment(
        data__output=str(work / "datasets"),
        data__split={"kind": "random", "valid": 0.0},
        training__output=str(work / "chosen"),
        training__num_workers=2,
        training__epochs=12,
        training__early_stopping={},
        training__optimizer__lr=0.03,
        tracking__uri=f"sqlite:///{work}/mlflow.db",
    )


@pytest.fixture(scope="module")
def trained(experiment: Experiment) -> Trained:
    return train(experiment, echo=lambda _: None)


def test_it_trains_on_all_rows_for_the_best_epoch_of_the_held_out_ones(experiment: Experiment, trained: Trained):
    epochs = trained.folder.read_epochs()
    assert epochs is not None
    assert epochs < 12  # it overfits
    assert set(trained.folder.read_history()) == set(range(1, epochs + 1))
    assert not (trained.folder / "holdout").exists()
    client = mlflow.MlflowClient(tracking_uri=experiment.tracking.uri)
    below = f"tags.`mlflow.parentRunId` = '{trained.run_id}'"
    (child,) = client.search_runs([client.get_run(trained.run_id).info.experiment_id], below)
    assert (child.info.run_name, child.info.status) == (f"{trained.name}-holdout", "FINISHED")
    assert {m.step for m in client.get_metric_history(child.info.run_id, "valid/click/loss")} >= {1, epochs}


@pytest.mark.parametrize("moment", [pytest.param(MOMENTS[0], marks=pytest.mark.long), MOMENTS[1]])
def test_one_that_is_stopped_goes_on_and_ends_the_same(experiment: Experiment, trained: Trained, moment: str):
    before = {path.name for path in Path(experiment.training.output).iterdir()}

    def stop(line: str) -> None:
        if line.startswith(moment):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment, echo=stop)
    (name,) = {path.name for path in Path(experiment.training.output).iterdir()} - before
    assert (RunFolder.of(experiment, name).read_epochs() is not None) == (moment == MOMENTS[1])
    resumed = train(experiment, resume=name, echo=lambda _: None)
    assert_same(trained.checkpoint, resumed.checkpoint)
    assert resumed.evaluation.metrics == pytest.approx(trained.evaluation.metrics, abs=1e-12)
