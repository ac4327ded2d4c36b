"""The files of a trial's checkpoint: what was written is read again, what is damaged is named."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune import Checkpoint

from mtl_ray.config import override
from mtl_ray.errors import InputError
from mtl_ray.models.checkpoint import SETTINGS
from mtl_ray.storage import Folder
from mtl_ray.tuning import trial
from mtl_ray.tuning.space import tune_of, untuned
from tests.support import small_experiment

TUNE = {
    "objectives": "valid/rating/rmse",
    "space": {"training.optimizer.lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2}},
    "algorithm": {"kind": "pb2", "every": 1},
    "trials": 4,
}


@pytest.mark.parametrize("score", [0.25, -math.inf])
def test_the_state_is_read_as_it_was_written(tmp_path: Path, score: float):
    state = trial.State(epoch=3, score=score, kept_epoch=2, kept={"valid/rating/rmse": 0.9})
    (tmp_path / trial.STATE).write_text(state.model_dump_json(by_alias=True))
    assert Folder(str(tmp_path)).read_model(trial.STATE, trial.State) == state
    assert (state.best_epoch, state.best_metrics) == (2, {"valid/rating/rmse": 0.9})


def test_a_state_that_was_written_before_is_read(tmp_path: Path):
    (tmp_path / trial.STATE).write_text('{"epoch": 1, "score": -Infinity, "kept_epoch": 0, "kept": {}}')
    assert Folder(str(tmp_path)).read_model(trial.STATE, trial.State) == trial.State(epoch=1)


@pytest.mark.parametrize("kept", [0, 0.5, 0.9])
@pytest.mark.parametrize("name", [trial.STATE, SETTINGS])
def test_a_truncated_file_of_the_checkpoint_that_a_trial_continues_is_named(tmp_path: Path, name: str, kept: float):
    base = override(small_experiment(), {"tune": TUNE})
    texts = {
        trial.STATE: trial.State(epoch=1).model_dump_json(by_alias=True),
        SETTINGS: untuned(base).model_dump_json(),
    }
    for file, text in texts.items():
        (tmp_path / file).write_text(text[: int(len(text) * kept)] if file == name else text)
    session = SimpleNamespace(get_checkpoint=lambda: Checkpoint.from_directory(str(tmp_path)))
    with pytest.raises(InputError, match=f"{tmp_path / name}: expected .* found what cannot be read") as caught:
        trial._train(base, tune_of(base), {"training.optimizer.lr": 1e-3}, shared=None, session=session)
    assert "\n" not in str(caught.value)
