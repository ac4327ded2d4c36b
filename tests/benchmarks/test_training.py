"""Training rows per second through Ray Train, over a hand-written loop on tensors in memory, side by side.

The same model, optimizers and rows; what is compared takes turns, see `in_turns`.
"""

import statistics
from pathlib import Path
from typing import Any

import pytest
import ray

from mtl_ray.config import override
from tests.benchmarks.trainings import (
    BATCH,
    PlainLoop,
    RayTraining,
    all_rows,
    experiment_of,
    in_turns,
    prepared_rows,
    widened,
)

EPOCHS = 8
"""Of each training; the first, which reads files and begins with cold memory, is not counted."""

MODELS: dict[str, tuple[dict[str, Any], int | None]] = {
    "shared_bottom": ({}, None),
    "mmoe": ({"model.kind": "mmoe", "model.encoder": {"hidden": [128, 64]}}, None),
    "shared_bottom, tables of 100,000 rows": ({}, 100_000),
    "shared_bottom, tables of 1,000,000 rows": ({}, 1_000_000),
}
"""By name, changes of the experiment and rows of the tables of users and items."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def prepared(folder):
    yield prepared_rows(experiment_of(folder))
    ray.shutdown()


def sized(prepared, folder: Path, size: int | None):
    if size is None:
        return prepared
    wide = folder / f"rows-{size}"
    return widened(prepared, size, wide)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MODELS)
def test_ray_train_over_a_hand_written_loop(name: str, prepared, folder: Path, performance):
    """Rows/s of one worker of Ray Train with one thread, over those of a hand-written PyTorch loop with the same model,
    optimizers and thread on shuffled tensors in memory: of seven epochs, of which all make seven steps in turn. Ray's
    processes are there all the time, and idle while the loop runs."""
    changes, size = MODELS[name]
    cached = override(experiment_of(folder), {**changes, "training.epochs": EPOCHS})
    streamed = override(cached, {"training.cache_memory": 0})
    data = sized(prepared, folder, size)
    plain = PlainLoop(cached, data, all_rows(data))
    trainings = {
        kind: RayTraining(experiment, data, folder / "storage")
        for kind, experiment in (("cached", cached), ("streamed", streamed))
    }
    ratios, rates = {kind: [] for kind in trainings}, []
    for _ in range(EPOCHS):
        alone, *others = in_turns(plain, *trainings.values())
        rates.append(data.schema.num_rows["train"] / alone)
        for kind, seconds in zip(trainings, others, strict=True):
            ratios[kind].append(alone / seconds)
    for training in trainings.values():
        training.end()
    note = f"1 thread, batch {BATCH:,}; hand-written {statistics.median(rates[1:]):,.0f} rows/s"
    for kind, bar in (("cached", 0.95), ("streamed", 0.85)):
        performance(f"Ray Train over a plain loop: {name}, {kind}", ratios[kind][1:], bar=bar, note=note)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [None, 1_000_000], ids=["small tables", "tables of 1,000,000 rows"])
def test_two_workers_over_two_threads(size: int | None, prepared, folder: Path, performance):
    """Rows/s of two workers of Ray Train with a thread each, over those of one worker with two threads: of seven
    epochs, of which both make seven steps in turn."""
    changes = {"training.epochs": EPOCHS, "training.threads_per_worker": 2}
    one = override(experiment_of(folder), changes)
    two = override(experiment_of(folder), {"training.epochs": EPOCHS, "training.num_workers": 2})
    data = sized(prepared, folder, size and size + 1)
    alone, together = (RayTraining(experiment, data, folder / "storage") for experiment in (one, two))
    ratios, rates = [], []
    for _ in range(EPOCHS):
        one_seconds, two_seconds = in_turns(alone, together)
        rates.append(data.schema.num_rows["train"] / one_seconds)
        ratios.append(one_seconds / two_seconds)
    alone.end()
    together.end()
    name = "small tables" if size is None else f"tables of {size:,} rows"
    waiting = f"{statistics.median(together.communication[1:]):.0%} of the time waiting for the other"
    note = f"one worker {statistics.median(rates[1:]):,.0f} rows/s; of two, {waiting}"
    performance(f"2 workers x 1 thread over 1 worker x 2 threads: {name}", ratios[1:], bar=0.9, note=note)
