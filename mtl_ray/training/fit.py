"""Train a model epoch by epoch, evaluate it and report, until the last epoch or early stopping."""

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from mtl_ray.cluster.ray_compat import progress_bar
from mtl_ray.config.tasks import is_higher_better
from mtl_ray.data.loader import Shard, draw_rows
from mtl_ray.distributed import rank
from mtl_ray.errors import InputError
from mtl_ray.evaluation.losses import mean_losses
from mtl_ray.models.checkpoint import SCORE, WITHIN_EPOCH
from mtl_ray.schema import num_steps
from mtl_ray.training.allocator import keep_freed_memory
from mtl_ray.training.callbacks import Callbacks
from mtl_ray.training.kept_epoch import stopping_metric
from mtl_ray.training.stopping import check_stopping_metric
from mtl_ray.training.trainer import Trainer


@keep_freed_memory()
def fit(
    trainer: Trainer,
    train: Shard,
    valid: Shard,
    report: Callable[[dict[str, Any]], None],
    title: str | None = "",
    each_step: Callable[[], None] = lambda: None,
) -> None:
    """Train from the trainer's position to the last epoch or to early stopping.

    Args:
        trainer: the model and the state of its training.
        train: this worker's training rows.
        valid: its validation rows; evaluation is skipped if the split has none.
        report: receives the metrics of each epoch, and a bare `SCORE` at each checkpoint within one.
        title: text before the name of the epoch in the progress bar; None for no bar.
        each_step: is called after each step.

    Raises:
        InputError: the early-stopping metric has no value.
    """
    experiment, schema, progress = trainer.experiment, trainer.schema, trainer.progress
    trainer.read_catalogs(train.folder)
    if not progress.epoch:
        check_stopping_metric(experiment, schema, valid.folder / valid.split)
    callbacks, tasks = Callbacks(experiment.training.callbacks), list(trainer.model.tasks)
    wanted = trainer.balancer.probe_rows
    probe = draw_rows(valid, wanted, experiment.seed) if wanted else None
    training, steps = experiment.training, num_steps(schema, experiment.training.batch_size)
    while not is_over(trainer):
        began, first_step = time.monotonic(), progress.step
        trainer.freeze(callbacks.frozen(progress.epoch))
        bar = _Bar(trainer, title)

        def on_step(step: int, totals: Tensor, bar: "_Bar" = bar) -> None:
            bar.update(step, totals, last=step == steps)
            each_step()
            callbacks.on_step(step, totals, tasks)
            if progress.sums and step < steps:
                report({"epoch": progress.epoch, "step": step, SCORE: WITHIN_EPOCH})

        metrics = trainer.epoch(train, on_step, probe)
        bar.close()
        seconds = time.monotonic() - began
        rows = schema.num_rows["train"] - first_step * training.batch_size
        metrics |= {"epoch": progress.epoch, "rows_per_second": rows / seconds, "train_seconds": seconds}
        metrics |= trainer.meter.over_workers()
        if schema.num_rows["valid"]:
            metrics |= trainer.evaluate(valid)
        metrics[SCORE] = _score(trainer, metrics)
        progress.stopped = callbacks.on_epoch(progress.epoch, metrics, trainer.evaluated)
        report(metrics)
    callbacks.on_end(progress.epoch, trainer.evaluated)


def _score(trainer: Trainer, metrics: dict[str, float]) -> float:
    """Record an improvement of the early-stopping metric; returns the score of the epoch."""
    experiment, progress = trainer.experiment, trainer.progress
    stopping = stopping_metric(experiment, trainer.schema)
    given = experiment.training.early_stopping
    if stopping is None or (stopping not in metrics and given is not None and given.metric is None):
        return float(progress.epoch)  # no validation row has a label that training knows: the last epoch is kept
    if stopping not in metrics:
        known = ", ".join(sorted(k for k in metrics if k.startswith("valid/")))
        raise InputError(f"training.early_stopping.metric: no metric `{stopping}`; there are {known or 'none'}")
    value = metrics[stopping] * (1 if is_higher_better(stopping) else -1)
    if progress.best is None or value > progress.best:
        progress.best, progress.best_epoch = value, progress.epoch
    return value


def is_over(trainer: Trainer) -> bool:
    """Return whether the last epoch is done, a callback asked to stop, or too many epochs brought no improvement."""
    training, progress = trainer.experiment.training, trainer.progress
    if progress.stopped or progress.epoch >= min(training.epochs, training.last_epoch or training.epochs):
        return True
    stopping = training.early_stopping
    return (
        stopping is not None and progress.best is not None and progress.epoch - progress.best_epoch >= stopping.patience
    )


class _Bar:
    """A progress bar of the epoch, shown by the driver: rows, rows/s, time left and the loss of each task."""

    def __init__(self, trainer: Trainer, title: str | None) -> None:
        self.trainer = trainer
        self.batch_size = trainer.experiment.training.batch_size
        self.last = time.monotonic()
        total = trainer.schema.num_rows["train"]
        epoch, epochs = trainer.progress.epoch + 1, trainer.experiment.training.epochs
        self.name = f"{title or ''} epoch {epoch}/{epochs}".strip()
        shown = rank() == 0 and title is not None
        self.bar = progress_bar(self.name, total, " rows") if shown else None
        self.rows = trainer.progress.step * self.batch_size

    def update(self, step: int, totals: Tensor, *, last: bool = False) -> None:
        if self.bar is None or (time.monotonic() - self.last < 1 and not last):
            return
        self.last = time.monotonic()
        losses = mean_losses(self.trainer.experiment.weights(), self.trainer.model.loss_scales, totals, "train")
        named = (f"{key.split('/')[1]} {value:z.4f}" for key, value in losses.items() if key.count("/") == 2)
        self.bar.set_description(f"{self.name} {' '.join(named)}")
        rows = min(step * self.batch_size, self.trainer.schema.num_rows["train"])
        self.bar.update(rows - self.rows)
        self.rows = rows

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
