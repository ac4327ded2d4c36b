"""What is measured of a training, and that measuring does not hold it up."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtl_ray.distributed import WAITING
from mtl_ray.training.timing import StepTimer
from mtl_ray.training.trainer import Trainer
from tests.support import small_experiment
from tests.unit.conftest import batch_of, schema_of
from tests.unit.models.architectures.test_architectures import labels_of

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """What `time.monotonic` says, as its only entry."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def batches(clock: list[float], seconds: float, number: int) -> Iterator[int]:
    """So many, each of which takes so long to make."""
    for each in range(number):
        clock[0] += seconds
        yield each


def test_waiting_for_input_and_for_others_are_shares_of_the_epoch(clock):
    meter = StepTimer(torch.nn.Linear(1, 1), CPU)
    for _ in meter.waiting(batches(clock, 1.0, 5)):
        clock[0] += 5.0
        with WAITING.running():
            clock[0] += 2.0
    own = meter.own()
    assert own["system/step_seconds"] == pytest.approx(8.0)
    assert own["system/input_wait"] == pytest.approx(1 / 8)
    assert own["system/communication"] == pytest.approx(2 / 8)
    assert own["system/memory_bytes"] > 2**20
    assert meter.over_workers() == pytest.approx(own)


def test_an_epoch_begins_anew(clock):
    meter = StepTimer(torch.nn.Linear(1, 1), CPU)
    list(meter.waiting(batches(clock, 1.0, 2)))
    list(meter.waiting(batches(clock, 3.0, 3)))
    assert meter.own()["system/step_seconds"] == pytest.approx(3.0)


class _Numbers(TorchDispatchMode):
    """Counts what takes a number from the device, for which a GPU would have to be waited for."""

    found = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        self.found += op in (aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default)
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["static", "scheduled"])
def test_a_step_takes_no_number_from_the_device(kind: str):
    tasks = {"click": "binary", "rating": {"kind": "regression"}}
    balancing = {"kind": kind, "diagnostics_every": 0} | (
        {"weights": {"click": {1: 0.5}}} if kind == "scheduled" else {}
    )
    experiment = small_experiment(tasks=tasks, balancing=balancing, training__clip_norm=1.0)
    trainer = Trainer(experiment, schema_of(experiment), CPU)
    batch = batch_of(64) | labels_of(64) | {"row": torch.arange(64)}
    trainer.step(batch)  # the first one makes the state of the optimizer
    with _Numbers() as numbers:
        trainer.step(batch)
    assert numbers.found == 0
