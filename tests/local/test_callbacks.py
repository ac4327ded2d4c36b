"""The user's own callbacks: what they see, and that they stop and freeze alike on one worker and on two."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.errors import InputError
from mtl_ray.training.callbacks import Callback
from mtl_ray.training.fit import fit, is_over
from mtl_ray.training.state import resume, save_checkpoint
from mtl_ray.training.trainer import Trainer
from tests.custom_parts import Warmup
from tests.support import TREE, parameters, shard
from tests.workers import run_workers

SEEN: list[tuple[Any, ...]] = []


class Watch(Callback):
    """Notes what it sees."""

    def on_step(self, step, losses):
        SEEN.append(("step", step, losses))

    def on_epoch(self, epoch, metrics, model):
        SEEN.append(("epoch", epoch, metrics, self.rank))

    def on_end(self, epochs, model):
        SEEN.append(("end", epochs))


class OneRankAsks(Callback):
    """Asks to stop on the last worker alone."""

    def on_epoch(self, epoch, metrics, model):
        return epoch == 1 and self.rank == torch.distributed.get_world_size() - 1


def experiment_of(*callbacks: dict[str, Any], **training: Any) -> Experiment:
    return parse({**TREE, "training": {**TREE["training"], "callbacks": callbacks, **training}}, "e.yaml")


def train(rank: int, world_size: int, experiment: Experiment, prepared: Prepared) -> dict[str, Any]:
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    reports = []
    rows, valid = (shard(prepared, split, rank, world_size) for split in ("train", "valid"))
    fit(trainer, rows, valid, reports.append, None)
    return {"epochs": trainer.progress.epoch, "parameters": parameters(trainer), "reports": reports}


HERE = "tests.local.test_callbacks:"
WARMUP = {"class": "tests.custom_parts:Warmup", "settings": {"parts": ["inputs", "network.encoder"], "epochs": 1}}


def test_a_callback_sees_steps_epochs_and_the_end_and_changes_nothing(prepared: Prepared):
    SEEN.clear()
    watched = train(0, 1, experiment_of({"class": f"{HERE}Watch"}), prepared)
    plain = train(0, 1, experiment_of(), prepared)
    for name, value in plain["parameters"].items():
        assert torch.equal(watched["parameters"][name], value), name
    steps = [entry for entry in SEEN if entry[0] == "step"]
    epochs = [entry for entry in SEEN if entry[0] == "epoch"]
    assert [entry[1] for entry in epochs] == [1, 2]
    assert [entry[3] for entry in epochs] == [0, 0]
    assert SEEN[-1] == ("end", 2)
    assert len(steps) == 2 * steps[-1][1]
    assert steps[-1][2]["rating"] > 0
    assert epochs[-1][2]["valid/rating/rmse"] == watched["reports"][-1]["valid/rating/rmse"]


def test_a_training_that_was_stopped_stays_so_when_it_is_resumed(prepared: Prepared, tmp_path: Path):
    experiment = experiment_of({"class": "tests.custom_parts:Warmup", "settings": {"stop_after": 1}}, epochs=5)
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    fit(trainer, shard(prepared, "train"), shard(prepared, "valid"), lambda _: None, None)
    assert trainer.progress.epoch == 1
    save_checkpoint(trainer, tmp_path / "c")
    resumed = Trainer(experiment, prepared.schema, torch.device("cpu"))
    resume(resumed, tmp_path / "c")
    assert is_over(resumed)


@pytest.mark.parametrize("callback", [WARMUP, {"class": f"{HERE}OneRankAsks"}], ids=["freezes", "stops"])
def test_two_workers_do_what_one_does(callback: dict[str, Any], prepared: Prepared):
    experiment = experiment_of(callback)
    several = run_workers(2, train, experiment, prepared)
    if "settings" not in callback:
        assert [result["epochs"] for result in several] == [1, 1]
        return
    one = train(0, 1, experiment, prepared)
    for name, value in one["parameters"].items():
        for result in several:
            torch.testing.assert_close(result["parameters"][name], value, rtol=0, atol=1e-10)


def test_frozen_parts_rest_and_then_learn(prepared: Prepared):
    begun = parameters(Trainer(experiment_of(WARMUP), prepared.schema, torch.device("cpu")))
    after = {epochs: train(0, 1, experiment_of(WARMUP, last_epoch=epochs), prepared)["parameters"] for epochs in (1, 2)}
    is_frozen = {name: name.startswith(("inputs.", "network.encoder.")) for name in begun}
    assert {True, False} == {*is_frozen.values()}
    for name, value in begun.items():
        assert torch.equal(after[1][name], value) == is_frozen[name] or not value.any(), name
    moved = [name for name in begun if is_frozen[name] and not torch.equal(after[2][name], begun[name])]
    assert "inputs.shared.tables.item_id.weight" in moved


def test_an_unknown_part_is_told(prepared: Prepared):
    unknown = {"class": "tests.custom_parts:Warmup", "settings": {"parts": ["encoder"], "epochs": 1}}
    with pytest.raises(InputError, match=r"training\.callbacks: the model has no part `encoder` to freeze: inputs"):
        train(0, 1, experiment_of(unknown), prepared)
    assert Warmup.on_step is Callback.on_step


def test_only_callbacks_are_taken():
    with pytest.raises(InputError, match=r"callbacks.0.class: expected .* to inherit from `\S+callbacks.Callback"):
        experiment_of({"class": "tests.custom_parts:Wide"})
