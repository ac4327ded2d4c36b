"""Trainings side by side, each a task of Ray and a child run in MLflow; those that finished survive a stop."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from mtl_ray.cluster.session import shows_bars
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.models.complexity import complexity_of
from mtl_ray.runs.callbacks import log_report
from mtl_ray.schema import SplitName
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.single_process import start_single_process


def train_in_parallel(
    cells: Mapping[str, tuple[Experiment, Prepared]], place: str, split: SplitName, cpus: int, run: Run, title: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Results (see `run_cell`) as they come, logged and kept; as many run at once as the cluster has room for.

    Args:
        cells: by name, what to train on which data set.
        place: folder of the run's folder that receives `NAME.json`.
        split: the rows that are evaluated.
        cpus: CPUs, and torch threads, of one training.
        run: the parent in MLflow.
        title: before the name of a child run.

    Raises:
        RuntimeError: a training failed.
    """
    bars = shows_bars()
    pending = {
        start_single_process(experiment, prepared, split, name if bars else None, cpus): name
        for name, (experiment, prepared) in cells.items()
    }
    try:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            name = pending.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayError as error:
                raise RuntimeError(f"the training of {name} failed") from error
            _log(name, *cells[name], result, place, run, title)
            run.folder.write_atomic(f"{place}/{name}.json", json.dumps(result, indent=2))
            yield name, result
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _log(
    name: str,
    experiment: Experiment,
    prepared: Prepared,
    result: Mapping[str, Any],
    place: str,
    parent: Run,
    title: str,
) -> None:
    """A child run in MLflow with what `train` would log of the same training."""
    run = Run.start(experiment, f"{title}/{name}", parent.folder / f"{place}/{name}", parent.run_id)
    run.log_experiment(experiment, prepared)
    run.log_metrics(complexity_of(experiment, prepared.schema).to_dict(), 0)
    for metrics in result["history"]:
        log_report(run, metrics)
    run.log_metrics(result["metrics"], experiment.training.epochs)
    run.finish("FINISHED")
