"""A training in one process: the function of a Ray task that `compare` starts for each run of its grid."""

import copy
import time
from typing import Any

import ray
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.loader import Shard, read_directly
from mtl_ray.evaluation.baselines import evaluate_baselines
from mtl_ray.models.checkpoint import SCORE, WITHIN_EPOCH
from mtl_ray.schema import SplitName
from mtl_ray.training.fit import fit
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import start_from


def start_single_process(
    experiment: Experiment, prepared: Prepared, split: SplitName, title: str | None, cpus: int = 1
) -> ray.ObjectRef:
    """Start `run_single_process` as a task of Ray with that many CPUs and torch threads."""
    training = experiment.training
    options = {"num_cpus": cpus, "num_gpus": int(training.use_gpu), "max_retries": training.max_failures}
    tree = experiment.model_dump(mode="json", exclude_unset=True)
    return ray.remote(run_single_process).options(**options).remote(tree, prepared.folder.location, split, title, cpus)


def run_single_process(
    experiment: dict[str, Any], dataset: str, split: SplitName, title: str | None, threads: int
) -> dict[str, Any]:
    """Train, and evaluate the epoch of the best score, as `train` does.

    Args:
        experiment: plain tree.
        dataset: location of the prepared data set.
        split: the rows to evaluate on.
        title: name in the progress bar; None for no bar.
        threads: torch threads.

    Returns:
        `metrics` of the split, `baselines` by name, `history` with metrics of each epoch, and `seconds`.
    """
    began = time.monotonic()
    settings = parse(experiment, "experiment")
    prepared = open_prepared(dataset)
    torch.set_num_threads(settings.training.threads_per_worker or threads)
    trainer = Trainer(settings, prepared.schema, torch.device("cuda" if settings.training.use_gpu else "cpu"))
    if settings.training.warm_start is not None:
        start_from(trainer, prepared, settings.training.warm_start)
    # Files are read here: tasks of Ray Data would wait for CPUs that the runs of the grid hold.
    memory = int(settings.training.cache_memory)
    train, valid, held_out = (
        Shard(prepared.folder, prepared.schema, name, 0, 1, memory, read_directly) for name in ("train", "valid", split)
    )
    history: list[dict[str, Any]] = []
    best: dict[str, Any] = {}

    def report(metrics: dict[str, Any]) -> None:
        if metrics[SCORE] == WITHIN_EPOCH:
            return
        history.append(metrics)
        if not best or metrics[SCORE] >= best[SCORE]:
            best.update({SCORE: metrics[SCORE], "weights": copy.deepcopy(trainer.evaluated.state_dict())})

    fit(trainer, train, valid, report, title)
    trainer.evaluated.load_state_dict(best["weights"])
    metrics = trainer.evaluate(held_out) if prepared.schema.num_rows[split] else {}
    return {
        "metrics": metrics,
        "baselines": evaluate_baselines(settings, prepared, split),
        "history": history,
        "seconds": time.monotonic() - began,
    }
