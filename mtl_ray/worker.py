"""What each worker of Ray Train runs."""

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.experimental import tqdm_ray
from torch import Tensor

from mtl_ray import checkpoint
from mtl_ray.checkpoint import SCORE, WITHIN_EPOCH
from mtl_ray.data.load import Shard, draw_rows
from mtl_ray.data.prepare import Prepared, open_prepared
from mtl_ray.data.storage import Folder
from mtl_ray.data.vocabulary import VOCABULARY
from mtl_ray.distributed import rank, world_size
from mtl_ray.errors import InputError
from mtl_ray.evaluation import evaluate
from mtl_ray.experiment import Experiment, parse
from mtl_ray.experiment.tasks import is_higher_better
from mtl_ray.experiment.training import Elastic, Training
from mtl_ray.loop import Trainer, mean_losses
from mtl_ray.memory import keep_freed_memory
from mtl_ray.observe import observed
from mtl_ray.schema import SplitName, num_steps
from mtl_ray.warm_start import start_from


def train_worker(config: dict[str, Any]) -> Exception | None:
    """Train from the latest checkpoint of this run, if any, to the last epoch or to early stopping.

    Args:
        config: `experiment` (plain tree; `training.warm_start` is a folder), `dataset` (location of the prepared
            data set), `bars` (whether the driver shows progress bars) and `trace` (the folder that receives a trace of
            the profiler, or None).

    Returns:
        Why training could not go on, where a restart from the last checkpoint would end the same; None if it did.
    """
    experiment = parse(config["experiment"], "experiment")
    prepared = open_prepared(config["dataset"])
    training = experiment.training
    quiet()
    cores = os.cpu_count() or 1
    per_worker = max(1, cores // ray.train.get_context().get_local_world_size())
    torch.set_num_threads(training.threads_per_worker or per_worker)
    trainer = Trainer(experiment, prepared.schema, ray.train.torch.get_device())
    start = ray.train.get_checkpoint()
    train, valid = (_shard(prepared, split, experiment) for split in ("train", "valid"))
    bar = "" if config["bars"] else None
    trace = Folder(config["trace"]) if config["trace"] else None
    try:
        if start is not None:
            with start.as_directory() as folder:
                trainer.resume(Path(folder))
        elif training.warm_start is not None:
            start_from(trainer, prepared, training.warm_start)
        with observed(trainer, ray.train.get_context().get_experiment_name(), trace) as each_step:
            fit(trainer, train, valid, lambda metrics: _report(metrics, trainer, prepared), bar, each_step)
    except (FloatingPointError, InputError) as error:  # on all workers alike, and another try would end the same
        return error.with_traceback(None)
    return None


def quiet() -> None:
    """Keep what is no user's concern from the output."""
    # Every report would be printed whole; the logger that does it is named after its file.
    reports = Path(ray.train.__file__).parent / "v2/_internal/execution/context.py"
    for name in ("ray.data", str(reports)):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What newer releases of torch want instead, older ones do not have.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)


def workers_of(training: Training) -> ray.train.ScalingConfig:
    """The workers that Ray Train starts."""
    workers = training.num_workers
    elastic = workers if isinstance(workers, Elastic) else None
    return ray.train.ScalingConfig(
        num_workers=(elastic.min, elastic.max) if elastic else training.most_workers,
        use_gpu=training.use_gpu,
        resources_per_worker=resources_of_worker(training),
        elastic_resize_monitor_interval_s=elastic.every if elastic else 60.0,
    )


def resources_of_worker(training: Training) -> dict[str, float]:
    """What Ray Train reserves for a worker."""
    return {"CPU": training.cpus_per_worker} | ({"GPU": 1} if training.use_gpu else {})


@keep_freed_memory()
def fit(
    trainer: Trainer,
    train: Shard,
    valid: Shard,
    report: Callable[[dict[str, Any]], None],
    title: str | None = "",
    each_step: Callable[[], None] = lambda: None,
) -> None:
    """Train from where `trainer` stands to the last epoch or to early stopping.

    Args:
        trainer: what is trained.
        train: this worker's training rows.
        valid: its validation rows; none are evaluated where the split has none.
        report: receives the metrics of each epoch, and a bare `SCORE` at each checkpoint within one.
        title: stands before the name of the epoch in the progress bar; None for no bar.
        each_step: is called after each step.
    """
    experiment, schema, progress = trainer.experiment, trainer.schema, trainer.progress
    if trainer.balancer.probe_rows:
        trainer.probe = draw_rows(valid, trainer.balancer.probe_rows, experiment.seed)
    training, steps = experiment.training, num_steps(schema, experiment.training.batch_size)
    while not is_over(trainer):
        began, first_step = time.monotonic(), progress.step
        bar = _Bar(trainer, title)

        def on_step(step: int, totals: Tensor, bar: "_Bar" = bar) -> None:
            bar.update(step, totals, last=step == steps)
            each_step()
            if progress.sums and step < steps:
                report({"epoch": progress.epoch, "step": step, SCORE: WITHIN_EPOCH})

        metrics = trainer.epoch(train, on_step)
        bar.close()
        seconds = time.monotonic() - began
        rows = schema.num_rows["train"] - first_step * training.batch_size
        metrics |= {"epoch": progress.epoch, "rows_per_second": rows / seconds, "train_seconds": seconds}
        metrics |= trainer.meter.over_workers()
        if schema.num_rows["valid"]:
            metrics |= evaluate(trainer, valid)
        metrics[SCORE] = _score(experiment, trainer, metrics)
        report(metrics)


def _shard(prepared: Prepared, split: SplitName, experiment: Experiment) -> Shard:
    memory = int(experiment.training.cache_memory)
    return Shard(prepared.folder, prepared.schema, split, rank(), world_size(), memory)


def _score(experiment: Experiment, trainer: Trainer, metrics: dict[str, float]) -> float:
    """Note an improvement of the early-stopping metric; returns the score of the epoch."""
    progress, stopping = trainer.progress, experiment.training.early_stopping
    if stopping is None:
        return float(progress.epoch)
    if stopping.metric not in metrics:
        known = ", ".join(sorted(k for k in metrics if k.startswith("valid/")))
        raise InputError(f"training.early_stopping.metric: no metric `{stopping.metric}`; there are {known or 'none'}")
    value = metrics[stopping.metric] * (1 if is_higher_better(stopping.metric) else -1)
    if progress.best is None or value > progress.best:
        progress.best, progress.best_epoch = value, progress.epoch
    return value


def is_over(trainer: Trainer) -> bool:
    """Whether the last epoch is done, or too many without improvement."""
    training, progress = trainer.experiment.training, trainer.progress
    if progress.epoch >= training.epochs:
        return True
    stopping = training.early_stopping
    return (
        stopping is not None and progress.best is not None and progress.epoch - progress.best_epoch >= stopping.patience
    )


def _report(metrics: dict[str, Any], trainer: Trainer, prepared: Prepared) -> None:
    """Report on every rank; rank 0 brings the checkpoint."""
    if rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        checkpoint.save(path, trainer.experiment, trainer.schema, trainer.evaluated, trainer.state())
        prepared.folder.copy_to(VOCABULARY, path / VOCABULARY)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))


class _Bar:
    """Progress of the epoch, shown by the driver: rows, rows/s, time left and the loss of each task."""

    def __init__(self, trainer: Trainer, title: str | None) -> None:
        self.trainer = trainer
        self.batch_size = trainer.experiment.training.batch_size
        self.last = time.monotonic()
        total = trainer.schema.num_rows["train"]
        epoch, epochs = trainer.progress.epoch + 1, trainer.experiment.training.epochs
        self.name = f"{title or ''} epoch {epoch}/{epochs}".strip()
        shown = rank() == 0 and title is not None
        self.bar = tqdm_ray.tqdm(desc=self.name, total=total, unit=" rows") if shown else None
        self.rows = trainer.progress.step * self.batch_size

    def update(self, step: int, totals: Tensor, *, last: bool = False) -> None:
        if self.bar is None or (time.monotonic() - self.last < 1 and not last):
            return
        self.last = time.monotonic()
        losses = mean_losses(self.trainer.experiment, totals, "train")
        named = (f"{key.split('/')[1]} {value:.4f}" for key, value in losses.items() if key.count("/") == 2)
        self.bar.set_description(f"{self.name} {' '.join(named)}")
        rows = min(step * self.batch_size, self.trainer.schema.num_rows["train"])
        self.bar.update(rows - self.rows)
        self.rows = rows

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
