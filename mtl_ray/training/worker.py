"""The function that each worker of Ray Train runs."""

import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from mtl_ray.cluster.ray_compat import quiet_train_reports
from mtl_ray.config import parse
from mtl_ray.config.training import ElasticConfig, TrainingConfig
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.loader import Shard
from mtl_ray.distributed import rank
from mtl_ray.errors import InputError
from mtl_ray.schema import SplitName
from mtl_ray.storage import Folder, naming
from mtl_ray.training.fit import fit
from mtl_ray.training.prometheus import monitored
from mtl_ray.training.state import resume, save_checkpoint
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import start_from
from mtl_ray.values.vocabulary import VOCABULARY


def train_worker(config: dict[str, Any]) -> Exception | None:
    """Train from the latest checkpoint of this run, if any, to the last epoch or to early stopping.

    Args:
        config: `experiment` (plain tree; `training.warm_start` is a folder), `dataset` (location of the prepared
            data set), `bars` (whether the driver shows progress bars), `trace` (the folder that receives a trace of the
            profiler, or None), `title` (text before the names of the epochs) and `beside` (the number of trainings
            that share the cores of a machine).

    Returns:
        An error that a restart from the last checkpoint would only repeat, or None on success.
    """
    experiment = parse(config["experiment"], "experiment")
    prepared = open_prepared(config["dataset"])
    training = experiment.training
    quiet()
    cores = os.cpu_count() or 1
    per_worker = max(1, cores // (ray.train.get_context().get_local_world_size() * config["beside"]))
    torch.set_num_threads(training.threads_per_worker or per_worker)
    trainer = Trainer(experiment, prepared.schema, ray.train.torch.get_device())
    start = ray.train.get_checkpoint()
    train, valid = (_shard(prepared, split, training) for split in ("train", "valid"))
    bar = config["title"] if config["bars"] else None
    trace = Folder(config["trace"]) if config["trace"] else None
    try:
        if start is not None:
            with start.as_directory() as folder:
                resume(trainer, Path(folder))
        elif training.warm_start is not None:
            start_from(trainer, prepared, training.warm_start)
        with monitored(trainer, ray.train.get_context().get_experiment_name(), trace) as each_step:
            fit(trainer, train, valid, lambda metrics: _report(metrics, trainer, prepared), bar, each_step)
    except (FloatingPointError, InputError) as error:  # on all workers alike, and another try would end the same
        return error.with_traceback(None)
    return None


def quiet() -> None:
    """Silence messages that do not concern a user."""
    quiet_train_reports()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # What newer releases of torch want instead, older ones do not have.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)


def workers_of(training: TrainingConfig) -> ray.train.ScalingConfig:
    """Return the workers that Ray Train starts."""
    workers = training.num_workers
    elastic = workers if isinstance(workers, ElasticConfig) else None
    return ray.train.ScalingConfig(
        num_workers=(elastic.min, elastic.max) if elastic else training.most_workers,
        use_gpu=training.use_gpu,
        resources_per_worker=resources_of_worker(training),
        elastic_resize_monitor_interval_s=elastic.every if elastic else 60.0,
    )


def resources_of_worker(training: TrainingConfig) -> dict[str, float]:
    """Return the resources that Ray Train reserves for a worker."""
    return {"CPU": training.cpus_per_worker} | ({"GPU": 1} if training.use_gpu else {})


def _shard(prepared: Prepared, split: SplitName, training: TrainingConfig) -> Shard:
    return Shard(prepared.folder, prepared.schema, split, cache_memory=int(training.cache_memory))


def _report(metrics: dict[str, Any], trainer: Trainer, prepared: Prepared) -> None:
    """Report on every rank; rank 0 brings the checkpoint."""
    if rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        save_checkpoint(trainer, path)
        prepared.folder.copy_to(VOCABULARY, path / VOCABULARY)
        run = Folder(trainer.experiment.training.output) / ray.train.get_context().get_experiment_name()
        with naming(f"{run}/checkpoint"):  # which Ray Train copies there
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))
