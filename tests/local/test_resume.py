"""A run resumed from a checkpoint equals a run that was never interrupted."""

from pathlib import Path

import pytest
import torch

from mtl_ray.data.dataset import Prepared
from mtl_ray.models import checkpoint
from mtl_ray.training.state import resume, state_of
from mtl_ray.training.trainer import Trainer
from tests.support import parameters, shard, small_experiment

SETTINGS = {
    "training__average": 0.9,
    "training__checkpoint_steps": 4,
    "training__schedule": {"kind": "cosine", "warmup_steps": 5},
    "model__encoder": {"hidden": [32], "dropout": 0.2},
}


@pytest.mark.parametrize("stop", [4, 12])
def test_resumed_equals_uninterrupted(prepared: Prepared, tmp_path: Path, stop: int):
    experiment = small_experiment(**SETTINGS)
    whole = Trainer(experiment, prepared.schema, torch.device("cpu"))
    losses = [whole.epoch(shard(prepared, "train")) for _ in range(2)]

    class StoppedError(Exception):
        pass

    broken = Trainer(experiment, prepared.schema, torch.device("cpu"))

    def stop_after_checkpoint(step, _):
        if broken.progress.sums and step == stop:
            checkpoint.save(tmp_path / "c", experiment, prepared.schema, broken.evaluated, state_of(broken))
            raise StoppedError

    with pytest.raises(StoppedError):
        broken.epoch(shard(prepared, "train"), stop_after_checkpoint)
    resumed = Trainer(experiment, prepared.schema, torch.device("cpu"))
    torch.manual_seed(99)  # the state of the generator must not matter
    resume(resumed, tmp_path / "c")
    again = [resumed.epoch(shard(prepared, "train")) for _ in range(2)]
    for key, value in losses[0].items():
        assert again[0][key] == pytest.approx(value, abs=1e-12)
    assert again[1] == losses[1]
    for name, value in parameters(whole).items():
        assert torch.equal(parameters(resumed)[name], value), name
    for a, b in zip(whole.evaluated.parameters(), resumed.evaluated.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_rerun_is_identical(prepared: Prepared):
    runs = []
    for _ in range(2):
        trainer = Trainer(small_experiment(**SETTINGS), prepared.schema, torch.device("cpu"))
        trainer.epoch(shard(prepared, "train"))
        runs.append(parameters(trainer))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
