"""A cluster, an S3 server and an MLflow server, the faults that befall them, and what must be there afterwards."""

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pyarrow.fs as pafs
import pytest
import yaml

from mtl_ray.cluster.ray_compat import MANIFEST, latest_reported_metrics
from mtl_ray.runs.recovery import COPY
from mtl_ray.runs.train import Trained
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import checkpoint_folder
from tests.cluster.machines import Driver, Machines
from tests.cluster.servers import free_port, mlflow_server, s3_server
from tests.cluster.test_failures import assert_same
from tests.support import small_experiment, wait_for

KILLS = int(os.environ.get("MTL_RAY_CHAOS_KILLS", "2"))
SEED = int(os.environ.get("MTL_RAY_CHAOS_SEED", "1"))
EPOCHS = 6


class World:
    """A cluster, an S3 server and an MLflow server, and the faults that befall them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.random, self.port = folder, random.Random(SEED), free_port()  # noqa: S311 - no secret
        self.s3 = s3_server(folder)
        self.store, self.options = self.s3.__enter__()
        self.tracking = mlflow_server(folder, self.port)
        self.tracking_process, self.uri = self.tracking.__enter__()
        os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
        # Else a worker that may allocate nothing more lives on the memory that it has freed.
        os.environ["MALLOC_MMAP_THRESHOLD_"] = "16384"
        self.machines = Machines(2)

    def close(self) -> None:
        self.machines.close()
        self.tracking.__exit__(None, None, None)
        self.s3.__exit__(None, None, None)

    def write(self, **changes) -> Path:
        """An experiment file."""
        experiment = small_experiment(
            training__num_workers=2,
            training__cpus_per_worker=0.8,
            training__threads_per_worker=1,
            training__epochs=EPOCHS,
            training__max_failures=20,
            training__timeout=30,
            **changes,
        )
        file = self.folder / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment.model_dump(mode="json", exclude_unset=True), sort_keys=False))
        return file

    # Each fault says whether the command has to be given again.

    def workers(self, driver: Driver) -> list[psutil.Process]:
        """The processes that work for the command, once there are some."""
        name = "RayTrainWorker" if "train" in driver.process.args else "ray::"
        found = wait_for(lambda: self.machines.processes(name) or driver.ended)
        return [] if found is True else found

    def worker(self, driver: Driver) -> bool | None:
        """SIGKILL of a process that works for the command, as by the kernel when memory is short."""
        if not (found := self.workers(driver)):
            return None
        self.random.choice(found).send_signal(signal.SIGKILL)
        return False

    def memory(self, driver: Driver) -> bool | None:
        """A worker of training can allocate nothing more; others take its place.

        Where that happens while Ray starts the workers, it gives up, and the command says how to continue.
        """
        found = wait_for(lambda: exchanging(self.workers(driver)) or driver.ended)
        if found is True:
            return None
        first = set(self.workers(driver))
        limit = found[0].memory_info().vms // 2
        found[0].rlimit(resource.RLIMIT_AS, (limit, limit))
        wait_for(lambda: driver.ended or set(self.workers(driver)) - first)
        return None if driver.ended and not driver.process.returncode else driver.ended

    def node(self, _: Driver) -> bool:
        """A machine is lost and another one comes."""
        self.machines.lose_node(self.random.randrange(2))
        return False

    def driver(self, driver: Driver) -> bool:
        """The command itself is killed."""
        driver.kill()
        return True

    def head(self, driver: Driver) -> bool:
        """The head restarts: the command ends by itself, and all that it had on the cluster is gone."""
        self.machines.restart()
        wait_for(lambda: driver.ended, 120)
        assert driver.process.returncode != 0
        return True

    def storage(self, _: Driver) -> bool:
        """The object store does not answer for some seconds."""
        self.store.send_signal(signal.SIGSTOP)
        time.sleep(5)
        self.store.send_signal(signal.SIGCONT)
        return False

    def mlflow(self, _: Driver) -> bool:
        """The MLflow server is down for a while."""
        self.tracking.__exit__(None, None, None)
        time.sleep(10)
        self.tracking = mlflow_server(self.folder, self.port)
        self.tracking.__enter__()
        return False

    def faults(self, *others: Callable[[Driver], bool | None]):
        """Faults without end, each kind once before one comes twice."""
        kinds = [self.worker, self.node, self.driver, self.head, self.storage, *others]
        self.random.shuffle(kinds)
        return cycle(kinds)


def exchanging(workers: list[psutil.Process]) -> list[psutil.Process]:
    """Workers that are connected with each other, and so past the loading of PyTorch."""
    try:
        connections = [{(c.laddr, c.raddr) for c in worker.net_connections() if c.raddr} for worker in workers]
    except psutil.NoSuchProcess:
        return []
    return [
        worker
        for worker, own in zip(workers, connections, strict=True)
        if any((theirs, mine) in other for mine, theirs in own for other in connections if other is not own)
    ]


def assert_nothing_left(world: World) -> None:
    """No placement group, actor or process of what was killed, some seconds later."""
    end = time.monotonic() + 60
    while (left := world.machines.left()) and time.monotonic() < end:
        time.sleep(1)
    assert not left
    assert not world.machines.processes("RayTrainWorker")
    assert not orphans(world)


def assert_prepared(output: Folder, result: dict[str, Any], trained: Trained, *, again: bool) -> None:
    """The data set is that of a quiet run; of one that was begun again hidden folders may be left beside it."""
    whole = Folder(result["dataset"])
    assert whole.read_json("schema.json")["content_hash"] == trained.prepared.schema.content_hash
    assert set(files(whole)) == set(files(trained.prepared.folder))
    others = {info.base_name for info in inside(output)} - {whole.name}
    assert all(name.startswith(".") for name in others)
    assert again or not others


def assert_trained(world: World, result: dict[str, Any], trained: Trained) -> None:
    """Metrics, parameters and the MLflow run are those of a quiet run, and each checkpoint that is kept is whole."""
    assert result["metrics"] == pytest.approx(trained.evaluation.metrics, abs=1e-12)
    run = run_of(world, result["run"])
    noted = run.read_json(MANIFEST)
    kept = {entry["checkpoint_dir_name"] for entry in noted["checkpoint_results"]}
    names = {info.base_name for info in inside(run) if not info.base_name.endswith(".json")}
    assert kept == {name for name in names if name.startswith("checkpoint_")}
    for name in kept:  # each is whole
        checkpoint_folder((run / name).location, "")
    best = max(noted["checkpoint_results"], key=lambda entry: entry["metrics"]["score"])
    assert_same(trained.checkpoint, checkpoint_folder((run / best["checkpoint_dir_name"]).location, ""))
    assert_whole(world.uri, result["run_id"], result["run"], run)


def assert_whole(uri: str, run_id: str, name: str, folder: Folder) -> None:
    """The run in MLflow is the only one of its name, has ended, and has every epoch once or with equal values."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    found = client.search_runs([run.info.experiment_id], f"attributes.run_name = '{name}'")
    assert [other.info.run_id for other in found] == [run_id]
    history = folder.read_json("history.json")
    assert set(history) == {str(epoch) for epoch in range(1, EPOCHS + 1)}
    for key in ("train/loss", "valid/rating/rmse"):
        logged = {(metric.step, metric.value) for metric in client.get_metric_history(run_id, key)}
        assert sorted(logged) == [(epoch, history[str(epoch)][key]) for epoch in range(1, EPOCHS + 1)]
    assert not folder.exists("unlogged.jsonl")


def inside(folder: Folder) -> list[pafs.FileInfo]:
    return folder.fs.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))


def files(folder: Folder) -> list[str]:
    infos = folder.fs.get_file_info(pafs.FileSelector(folder.path, recursive=True))
    return [info.path.removeprefix(folder.path) for info in infos if info.is_file]


def runs_of(world: World) -> set[str]:
    names = {info.base_name for info in inside(Folder(f"s3://bucket/runs?{world.options}"))}
    return {name for name in names if not name.startswith(".")}  # a check of the storage that a fault ended


def run_of(world: World, name: str) -> Folder:
    return Folder(f"s3://bucket/runs/{name}?{world.options}")


def reported(run: Folder) -> tuple[int, int]:
    """Return the epochs, and the further steps, that a run has reported with a checkpoint."""
    metrics = latest_reported_metrics(run.read_json(COPY)) if run.exists(COPY) else None
    return (metrics["epoch"], metrics.get("step", 0)) if metrics else (0, 0)


def checkpoints(world: World, before: set[str]) -> bool:
    """Whether the new run has a checkpoint."""
    new = runs_of(world) - before
    return any(run_of(world, name).exists(COPY) for name in new)


def orphans(world: World) -> list[str]:
    """Processes of commands that were killed."""
    return [
        " ".join(process.cmdline())
        for process in psutil.process_iter()
        if process.status() != psutil.STATUS_ZOMBIE and str(world.folder / "experiment.yaml") in process.cmdline()
    ]
