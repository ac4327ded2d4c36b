"""Train several experiments side by side, each as a task of Ray and a child run in MLflow."""

from collections.abc import Iterator, Mapping
from typing import Any

import ray

from mtl_ray.cluster.session import shows_bars
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.models.complexity import complexity_of
from mtl_ray.runs.callbacks import log_report
from mtl_ray.runs.records import JsonFiles
from mtl_ray.schema import SplitName
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.single_process import Training, start_single_process


def train_in_parallel(
    trainings: Mapping[str, Training],
    files: JsonFiles,
    split: SplitName,
    cpus: int,
    run: Run,
    title: str,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each result (see `run_single_process`) as it comes, after it was logged and written.

    As many trainings run at once as the cluster has room for. Results that were written survive a stop.

    Args:
        trainings: by name, what to train on which data set.
        files: receives the results.
        split: the rows to evaluate on.
        cpus: CPUs, and torch threads, of one training.
        run: the parent run in MLflow.
        title: stands before the names of the child runs.

    Raises:
        RuntimeError: a training failed.
    """
    bars = shows_bars()
    pending = {
        start_single_process(training, split, name if bars else None, cpus): name
        for name, training in trainings.items()
    }
    try:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            name = pending.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayError as error:
                raise RuntimeError(f"the training of {name} failed") from error
            experiment, prepared = trainings[name].experiment, trainings[name].prepared
            child = Run.start(experiment, f"{title}/{name}", files.folder / name, run.run_id)
            _log(child, experiment, prepared, result)
            run.adopt_lost(child.folder, name)
            files.write(name, result)
            yield name, result
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _log(run: Run, experiment: Experiment, prepared: Prepared, result: Mapping[str, Any]) -> None:
    """Log what `train` would log of the same training."""
    run.log_experiment(experiment, prepared)
    run.log_metrics(complexity_of(experiment, prepared.schema).to_dict(), 0)
    for metrics in result["history"]:
        log_report(run, metrics)
    run.log_metrics(result["metrics"], experiment.training.epochs)
    run.finish("FINISHED")
