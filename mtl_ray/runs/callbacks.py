"""Log the metrics that rank 0 reports.

This module stands apart from `runs.train` because Ray Train's controller imports it before it starts a worker.
"""

import os
from typing import Any

import ray.train

from mtl_ray.config import Experiment
from mtl_ray.models.checkpoint import SCORE, WITHIN_EPOCH
from mtl_ray.runs.recovery import copy_manifest, last_metrics
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tracking.tracked_run import Run

IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's settings in the controller: workers wait for it, and what MLflow misses is sent again at the end."""


class EpochLogger(ray.train.UserCallback):
    """Logs each report in MLflow and each epoch in the run's folder; without progress bars it prints a line as well.

    Ray Train calls it in its controller, once per report.
    """

    def __init__(self, experiment: Experiment, run: Run, folder: RunFolder, bars: bool, title: str = "") -> None:
        self.experiment, self.run, self.folder, self.bars, self.title = experiment, run, folder, bars, title
        self.history = folder.read_history()

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:  # noqa: D102
        os.environ.update(IMPATIENT)
        self.log(metrics[0])
        copy_manifest(self.folder)

    def log(self, metrics: dict[str, Any]) -> None:
        """Log a report, and if it ends an epoch, note it in the run's folder."""
        values = log_report(self.run, metrics)
        if metrics[SCORE] != WITHIN_EPOCH:
            self.history[int(metrics["epoch"])] = values
            self.folder.write_history(self.history)
            if not self.bars:
                print(f"{self.title} {epoch_line(self.experiment, metrics)}".strip(), flush=True)

    def log_lost(self) -> None:
        """Log the epoch whose checkpoint a killed driver wrote without logging it."""
        metrics = last_metrics(self.folder)
        if metrics and metrics[SCORE] != WITHIN_EPOCH and metrics["epoch"] not in self.history:
            self.log(metrics)


def epoch_line(experiment: Experiment, metrics: dict[str, Any]) -> str:
    """Return an epoch's losses by task and its rows per second, as a line for a log file."""
    told = [f"epoch {metrics['epoch']}/{experiment.training.epochs}"]
    for split in ("train", "valid"):
        losses = {task: metrics.get(f"{split}/{task}/loss") for task in experiment.tasks}
        if found := [f"{task} {loss:z.4f}" for task, loss in losses.items() if loss is not None]:
            told.append(f"{split} loss {', '.join(found)}")
    return "; ".join([*told, f"{metrics['rows_per_second']:,.0f} rows/s"])


def log_report(run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
    """Log the metrics in a worker's report, and return them."""
    values = {k: v for k, v in metrics.items() if isinstance(v, int | float) and k not in (SCORE, "epoch")}
    run.log_metrics(values, int(metrics["epoch"]))
    return values
