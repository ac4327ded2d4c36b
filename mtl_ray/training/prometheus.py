"""Monitoring of a worker's training: metrics of Ray, which exports them to Prometheus, and a profiler trace."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from ray.util.metrics import Gauge

from mtl_ray.distributed import rank
from mtl_ray.schema import num_steps
from mtl_ray.storage import Folder
from mtl_ray.training.profiler import Trace
from mtl_ray.training.trainer import Trainer

EVERY = 10.0
"""Seconds between two updates of a gauge."""

DESCRIPTIONS = {
    "rows_per_second": "Training rows of the global batches per second since the epoch began",
    "step_seconds": "Mean seconds of a training step since the epoch began",
    "input_wait": "Share of the epoch's time in which the worker had no batch to work on",
    "communication": "Share of the epoch's time in which the worker waited for other workers",
    "memory_bytes": "The most bytes that the worker has taken, on a GPU the most of the device's memory",
}


class Gauges:
    """A gauge `ray_mtl_ray_NAME` for each measurement, with the tags `run` and `worker`."""

    def __init__(self, run: str, worker: int) -> None:
        self.last = -EVERY
        tags = ("run", "worker")
        self.gauges = {n: Gauge(f"mtl_ray_{n}", d, tag_keys=tags) for n, d in DESCRIPTIONS.items()}
        for gauge in self.gauges.values():
            gauge.set_default_tags({"run": run, "worker": str(worker)})

    def is_due(self) -> bool:
        """Return whether the last values are old."""
        return time.monotonic() - self.last >= EVERY

    def set(self, values: Mapping[str, float]) -> None:
        """Set the gauges from values by name or `system/NAME`; other values are ignored."""
        self.last = time.monotonic()
        for key, value in values.items():
            if gauge := self.gauges.get(key.removeprefix("system/")):
                gauge.set(value)


@contextmanager
def monitored(trainer: Trainer, run: str, folder: Folder | None) -> Iterator[Callable[[], None]]:
    """Monitor a training within the block; yields a function to call after every step.

    Args:
        trainer: the training.
        run: name of the run.
        folder: receives a trace of some steps of rank 0; None for no trace.
    """
    training, progress, gauges = trainer.experiment.training, trainer.progress, Gauges(run, rank())
    per_epoch = num_steps(trainer.schema, training.batch_size)
    steps = (training.epochs - progress.epoch) * per_epoch - progress.step
    tracing = nullcontext() if folder is None or rank() else Trace(folder, steps)
    with tracing as trace:

        def each_step() -> None:
            if trace is not None:
                trace.step()
            if gauges.is_due():
                own = trainer.meter.own()
                gauges.set({"rows_per_second": training.batch_size / own["system/step_seconds"], **own})

        yield each_step
