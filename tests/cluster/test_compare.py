"""A grid through Ray: side by side, resumed where it stopped, one MLflow run with a child a cell."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

from mtl_ray.comparison.run import compare
from mtl_ray.config import Experiment, override
from mtl_ray.errors import InputError
from mtl_ray.runs.train import train
from mtl_ray.training.single_process import run_single_process

CHANGES = {"multi": {}, "single": {"tasks.gender": None, "tasks.occupation": None, "tasks.tags": None}}


@pytest.fixture(scope="module")
def grid_settings(settings, work) -> Experiment:
    compare = {"variants": CHANGES, "baseline": "single", "seeds": [3, 4], "metrics": ["rating/rmse", "gender/auc"]}
    return override(
        settings,
        {
            "name": "grid",
            "data.seed": 3,
            "training.output": str(work / "grid"),
            "training.epochs": 2,
            "tracking.register_as": None,
            "compare": compare,
        },
    )


@pytest.fixture(scope="module")
def interrupted(cluster, grid_settings, work) -> str:
    """Name of a comparison that was stopped after its first cell."""

    def stop(line: str) -> None:
        if line.startswith("1/4"):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        with pytest.raises(KeyboardInterrupt):
            compare(grid_settings, echo=stop)
    return next((work / "grid").glob("*/run.json")).parent.name


@pytest.fixture(scope="module")
def resumed(interrupted, grid_settings, work):
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        return compare(grid_settings, resume=interrupted, echo=said.append, command="mtl-ray compare f.yaml"), said


def test_a_resumed_comparison_trains_the_missing_cells_alone(resumed, interrupted):
    result, said = resumed
    assert result.name == interrupted
    assert f"resuming run {interrupted}: 1 of 4 cells are there" in said
    assert [line.split()[0] for line in said if line[0].isdigit()] == ["2/4", "3/4", "4/4"]


def test_the_data_set_is_made_once_for_seeds_that_share_it(resumed, grid_settings):
    made = list(Path(grid_settings.data.output).glob("grid-*"))
    assert len(made) == 2  # one with the tasks of `multi`, one with those of `single`


def test_mlflow_has_one_parent_with_one_child_a_cell(resumed, settings):
    result, _ = resumed
    client = mlflow.MlflowClient(tracking_uri=settings.tracking.uri)
    experiment = client.get_experiment_by_name("grid")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == result.run_id]
    assert len(runs) == 5
    assert sorted(run.info.run_name.removeprefix(result.name) for run in children) == [
        f"/{variant}/seed{seed}" for variant in ("multi", "single") for seed in (3, 4)
    ]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all("test/rating/rmse" in run.data.metrics for run in children)
    artifacts = {artifact.path for artifact in client.list_artifacts(str(result.run_id))}
    assert artifacts >= {"report.html", "comparison.md", "comparison.json", "comparison.png", "experiment.yaml"}


def test_the_table_has_every_variant_and_the_predictions_without_a_model(resumed):
    result, _ = resumed
    rows = [row for row in result.comparison.rows if row.key == "rating/rmse" and row.segment == "all"]
    assert [row.variant for row in rows] == ["single", "multi", "constant", "item_mean", "user_mean"]
    assert rows[1].summary.n == 2
    assert rows[1].p_holm is not None
    assert "Made by `mtl-ray compare f.yaml`" in result.folder.read_text("comparison.md")
    assert (Path(result.folder.path) / "comparison.png").stat().st_size > 10_000


def test_a_comparison_is_resumed_with_its_own_file_and_command_alone(resumed, grid_settings):
    result, _ = resumed
    with pytest.raises(InputError, match="differs from that of the run in training"):
        compare(override(grid_settings, {"training.epochs": 3}), resume=result.name)
    with pytest.raises(InputError, match="expected a run of `train`; it is one of `compare`"):
        train(grid_settings, resume=result.name)


def test_a_cell_is_the_training_of_one_worker_that_train_makes(trained, settings):
    """Same experiment, same data set, trained by two workers of Ray Train and as a cell."""
    tree: dict[str, Any] = settings.model_dump(mode="json", exclude_unset=True)
    result = run_single_process(tree, trained.prepared.folder.location, "test", "cell", 1)
    shared = {key: value for key, value in trained.evaluation.metrics.items() if not key.endswith("/loss")}
    assert {key: result["metrics"][key] for key in shared} == pytest.approx(shared, abs=1e-7)
    assert result["baselines"] == trained.evaluation.baselines
    assert [metrics["epoch"] for metrics in result["history"]] == list(range(1, settings.training.epochs + 1))


def test_a_cell_that_fails_is_named(cluster, grid_settings, work, monkeypatch):
    monkeypatch.chdir(work)
    broken = override(grid_settings, {"training.optimizer.lr": 1e300})
    said: list[str] = []
    with pytest.raises(RuntimeError, match=r"the training of (multi|single)/seed3 failed"):
        compare(broken, echo=said.append)
    assert said[-1].startswith("stopped with 0 of 4 cells; continue with: mtl-ray compare EXPERIMENT --resume grid-")
