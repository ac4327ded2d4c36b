"""Faults that do not come by themselves in a random loop: a full disk, a loss that is not finite."""

import subprocess
from pathlib import Path

import mlflow
import pytest
from ray.train import TrainingFailedError

from mtl_ray.cluster.causes import full_disk
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.runs.train import train
from tests.cluster.test_failures import assert_same, checkpoints
from tests.support import small_experiment


def experiment_of(settings, runs: Path, **changes):
    return small_experiment(
        data__output=settings.data.output,
        training__output=str(runs),
        training__num_workers=2,
        training__epochs=6,
        tracking__uri=settings.tracking.uri,
        **changes,
    )


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 500 kB: room for the first checkpoint of the run and not for the second."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk: mounting one needs root: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.long
def test_a_full_disk_ends_the_run_and_with_room_it_goes_on_to_the_same_result(
    trained, settings, work, small_disk, monkeypatch
):
    monkeypatch.chdir(work)
    experiment = experiment_of(settings, small_disk, training__max_failures=0)
    said: list[str] = []
    with pytest.raises(TrainingFailedError, match=r"No space left on device|Errno 28") as failed:
        train(experiment, echo=said.append)
    name = next(small_disk.glob("*/run.json")).parent.name
    assert f"the disk is full: that of {small_disk / name}, where" in str(full_disk(failed.value))
    assert said[-1] == f"stopped; continue with: mtl-ray train EXPERIMENT --resume {name}"
    assert checkpoints(small_disk)
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    result = train(experiment, resume=name, echo=said.append)
    assert_same(trained.checkpoint, result.checkpoint)
    assert len(checkpoints(small_disk)) == 2
    assert mlflow.MlflowClient(tracking_uri=settings.tracking.uri).get_run(result.run_id).info.status == "FINISHED"


def test_a_start_from_another_model_is_told_in_one_line_without_restarts(
    trained, settings, work, tmp_path, monkeypatch
):
    monkeypatch.chdir(work)
    start = {"training__warm_start": str(trained.checkpoint), "model__tower": {"hidden": [5]}}
    with pytest.raises(InputError, match=r"training\.warm_start: .* has another model; expected \(5, "):
        train(experiment_of(settings, tmp_path, training__max_failures=3, **start), echo=lambda _: None)


def test_a_loss_that_is_not_finite_ends_the_run_at_once_with_the_last_good_checkpoint(
    trained, settings, work, tmp_path, monkeypatch
):
    monkeypatch.chdir(work)
    # The rate of the third epoch overflows what the first two have learned.
    schedule = {"kind": "constant", "epochs": {2: 1e200}}
    experiment = experiment_of(
        settings, tmp_path, training__schedule=schedule, training__optimizer={"kind": "sgd", "lr": 0.01}
    )
    with pytest.raises(FloatingPointError, match=r"of epoch [34] is not finite; lower training.optimizer.lr"):
        train(experiment, echo=lambda _: None)
    kept = checkpoints(tmp_path)
    assert kept
    for path in kept:
        assert all(value.isfinite().all() for value in checkpoint.load(path.parent).model.state_dict().values())
