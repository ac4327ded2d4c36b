"""Wall time of 32 trials on two cores over that of their bare training loops in a plain pool of two processes, which
is the mean of that before the search and that after it."""

import multiprocessing
import statistics
import threading
import time
from typing import Any

import psutil
import ray
import torch

from mtl_ray.cluster.session import connect
from mtl_ray.config import Experiment, override, parse
from mtl_ray.data.dataset import open_prepared
from mtl_ray.data.loader import num_bytes
from mtl_ray.data.prepare import prepare
from mtl_ray.data.shared import SharedDataset, share_dataset
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.fit import fit
from mtl_ray.training.trainer import Trainer
from mtl_ray.tuning.results import Tuning
from mtl_ray.tuning.search import search
from mtl_ray.tuning.space import changes_of, trial_experiment, untuned
from tests.support import random_draw, small_experiment

TRIALS, CORES = 32, 2
SETTINGS = {
    "data.source.num_interactions": 100_000,
    "data.bucket_rows": 100_000,
    "training": {"epochs": 4, "batch_size": 2048},
    "tune": {
        "objectives": "valid/rating/rmse",
        "space": {"tasks.*.weight": {"kind": "simplex"}},
        "algorithm": "random",
        "trials": TRIALS,
    },
}
rows: SharedDataset
"""Of a process of the plain pool."""


def load_rows(dataset: str) -> None:
    global rows  # noqa: PLW0603 - what an initializer of a pool leaves
    torch.set_num_threads(1)
    rows = share_dataset(open_prepared(dataset), ("train", "valid"), 1 << 40)


def bare_loop(tree: dict[str, Any]) -> None:
    trainer = Trainer(parse(tree, "trial"), rows.prepared.schema, torch.device("cpu"))
    fit(trainer, rows.shard("train"), rows.shard("valid"), lambda _: None, None)


def plain_pool(trials: list[Experiment], dataset: str) -> float:
    """Seconds of the trainings in two processes that have imported all and hold the data."""
    trees = [trial.model_dump(mode="json", exclude_unset=True) for trial in trials]
    with multiprocessing.get_context("spawn").Pool(CORES, load_rows, (dataset,)) as pool:
        pool.map(bare_loop, trees[:CORES], chunksize=1)
        began = time.monotonic()
        pool.map(bare_loop, trees, chunksize=1)
        return time.monotonic() - began


class Watch:
    """When trials start and begin to train, and the memory that their processes have for themselves."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.begun: dict[str, float] = {}
        self.memory: dict[int, int] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def show(self, tuning: Tuning) -> None:
        now = time.monotonic()
        for trial in tuning.trials:
            self.started.setdefault(trial.id, now)
            if trial.history:
                self.begun.setdefault(trial.id, now - trial.seconds)

    def _sample(self) -> None:
        while not self.ended.wait(3):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::ImplicitFunc" in (name := " ".join(process.cmdline())) or "run_trial" in name:
                        self.memory[process.pid] = process.memory_full_info().uss
                except psutil.Error:
                    continue


def test_overhead_of_a_search(tmp_path, monkeypatch, performance):
    monkeypatch.chdir(tmp_path)
    places = {"data.output": str(tmp_path / "datasets"), "tracking.uri": f"sqlite:///{tmp_path}/mlflow.db"}
    experiment = override(small_experiment(), {**SETTINGS, **places})
    draw = random_draw(0)
    trials = [trial_experiment(experiment, changes_of(experiment, draw)) for _ in range(TRIALS)]
    connect(num_cpus=CORES, log_to_driver=False)
    try:
        prepared = prepare(untuned(experiment))
        bare = [plain_pool(trials, prepared.folder.location)]
        shared, watch = share_dataset(prepared, ("train", "valid"), 1 << 40), Watch()
        run = Run.start(experiment, "search", Folder(str(tmp_path / "search")).create())
        began = time.monotonic()
        found = search(experiment, shared, run, "search", {}, watch.show)
        seconds = time.monotonic() - began
        watch.ended.set()
        watch.thread.join()
        bare.append(plain_pool(trials, prepared.folder.location))
    finally:
        ray.shutdown()
    assert [trial.state for trial in found] == ["finished"] * TRIALS
    first, *others = [watch.begun[key] - watch.started[key] for key in watch.started]
    size = sum(num_bytes(batch) for split in ("train", "valid") for batch in shared.shard(split).kept.values())
    own = ", ".join(f"{memory / 1e6:.0f} MB" for memory in watch.memory.values())
    note = (
        f"{seconds:.0f} s over {bare[0]:.0f} s before and {bare[1]:.0f} s after; the {len(watch.memory)} processes "
        f"that ran all trials have {own} of their own and share {size / 1e6:.0f} MB of data"
    )
    ratio = seconds / statistics.mean(bare)
    performance(f"search of {TRIALS} trials over bare loops", ratio, bar=1.25, at_least=False, note=note)
    note = f"from the start of a trial to its training: first {first:.1f} s, then {statistics.median(others):.2f} s"
    performance("start of a later trial over the first's", statistics.median(others) / first, note=note)
