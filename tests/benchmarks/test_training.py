"""Training rows per second through Ray Train, over a hand-written loop on tensors in memory, side by side.

One worker and one thread each; the same model, optimizers and rows. Rates are medians of the epochs after the first.
"""

import statistics
from pathlib import Path
from typing import Any

import pytest
import ray

from mtl_ray.experiment import override
from tests.benchmarks.trainings import (
    BATCH,
    all_rows,
    experiment_of,
    plain_rate,
    prepared_rows,
    ray_epochs,
    ray_rate,
    widened,
)

REPETITIONS = 3

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
    optimizers and thread on shuffled tensors in memory; each median epoch after the first, loop and runs in turn."""
    changes, size = MODELS[name]
    cached = override(experiment_of(folder), changes)
    streamed = override(cached, {"training.cache_memory": 0})
    data = sized(prepared, folder, size)
    rows, ratios, rates = all_rows(data), {"cached": [], "streamed": []}, []
    for _ in range(REPETITIONS):
        before = plain_rate(cached, data, rows)
        rates.append(before)
        for kind, experiment in (("cached", cached), ("streamed", streamed)):
            rate = ray_rate(experiment, data, folder / "storage")
            after = plain_rate(cached, data, rows)
            ratios[kind].append(rate / ((before + after) / 2))
            before = after
    note = f"1 thread, batch {BATCH:,}; hand-written {sorted(rates)[1]:,.0f} rows/s"
    for kind, bar in (("cached", 0.95), ("streamed", 0.85)):
        performance(f"Ray Train over a plain loop: {name}, {kind}", ratios[kind], bar=bar, note=note)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [None, 1_000_000], ids=["small tables", "tables of 1,000,000 rows"])
def test_two_workers_over_two_threads(size: int | None, prepared, folder: Path, performance):
    """Rows/s of two workers of Ray Train with a thread each, over those of one worker with two threads."""
    one = override(experiment_of(folder), {"training.threads_per_worker": 2})
    two = override(experiment_of(folder), {"training.num_workers": 2})
    data = sized(prepared, folder, size and size + 1)
    ratios, rates, shares = [], [], []
    for _ in range(REPETITIONS):
        rates.append(ray_rate(one, data, folder / "storage"))
        epochs = ray_epochs(two, data, folder / "storage")[1:]
        ratios.append(statistics.median(e["rows_per_second"] for e in epochs) / rates[-1])
        shares.append(epochs[-1]["system/communication"])
    name = "small tables" if size is None else f"tables of {size:,} rows"
    note = f"one worker {sorted(rates)[1]:,.0f} rows/s; {sorted(shares)[1]:.0%} of the time waiting for the other"
    performance(f"2 workers x 1 thread over 1 worker x 2 threads: {name}", ratios, bar=0.9, note=note)
