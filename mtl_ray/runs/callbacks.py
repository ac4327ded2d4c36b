"""What becomes of the metrics that rank 0 reports.

In a module of its own, for the controller of Ray Train imports it before it starts a worker.
"""

import json
import os
from typing import Any

import ray.train

from mtl_ray.config import Experiment
from mtl_ray.models.checkpoint import SCORE, WITHIN_EPOCH
from mtl_ray.runs.recovery import copy_manifest, last_metrics
from mtl_ray.runs.run_folder import HISTORY, read_history
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run

IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Of the process that watches the workers: they wait for it, and what MLflow misses is sent again at the end."""


class EpochLog(ray.train.UserCallback):
    """Sends what rank 0 reports to MLflow and keeps it by epoch in the run's folder; without progress bars it also
    prints a line. Runs once per report, in the controller of Ray Train beside the driver, never in a worker."""

    def __init__(self, experiment: Experiment, run: Run, folder: Folder, bars: bool) -> None:
        self.experiment, self.run, self.folder, self.bars = experiment, run, folder, bars
        self.history = read_history(folder)

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:  # noqa: D102
        os.environ.update(IMPATIENT)
        self.log(metrics[0])
        copy_manifest(self.folder)

    def log(self, metrics: dict[str, Any]) -> None:
        """Log what was reported; of a whole epoch also in the run's folder."""
        values = log_report(self.run, metrics)
        if metrics[SCORE] != WITHIN_EPOCH:
            self.history[int(metrics["epoch"])] = values
            self.folder.write_atomic(HISTORY, json.dumps(self.history))
            if not self.bars:
                print(epoch_line(self.experiment, metrics), flush=True)

    def log_lost(self) -> None:
        """Log the epoch whose checkpoint was written and which a killed driver had not logged yet."""
        metrics = last_metrics(self.folder)
        if metrics and metrics[SCORE] != WITHIN_EPOCH and metrics["epoch"] not in self.history:
            self.log(metrics)


def epoch_line(experiment: Experiment, metrics: dict[str, Any]) -> str:
    """An epoch's losses by task and rows per second, for a log file."""
    told = [f"epoch {metrics['epoch']}/{experiment.training.epochs}"]
    for split in ("train", "valid"):
        losses = {task: metrics.get(f"{split}/{task}/loss") for task in experiment.tasks}
        if found := [f"{task} {loss:.4f}" for task, loss in losses.items() if loss is not None]:
            told.append(f"{split} loss {', '.join(found)}")
    return "; ".join([*told, f"{metrics['rows_per_second']:,.0f} rows/s"])


def log_report(run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
    """Log what a worker reported after an epoch; returns the metrics in it."""
    values = {k: v for k, v in metrics.items() if isinstance(v, int | float) and k not in (SCORE, "epoch")}
    run.log_metrics(values, int(metrics["epoch"]))
    return values
