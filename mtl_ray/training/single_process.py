"""A training in one process: the function of a Ray task that `compare` starts for each run of its grid."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from mtl_ray.balancing.guarded import guard_factors
from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.loader import Shard, read_directly
from mtl_ray.evaluation.baselines import evaluate_baselines
from mtl_ray.evaluation.evaluate import evaluate_model
from mtl_ray.models import MultiTaskModel
from mtl_ray.models.checkpoint import SCORE, WITHIN_EPOCH
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.schema import SplitName
from mtl_ray.training.fit import fit
from mtl_ray.training.kept_epoch import for_epochs
from mtl_ray.training.members import members_of, title_of
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import start_from


@dataclass(frozen=True)
class Training:
    """An experiment, and the data set that it is trained on."""

    experiment: Experiment
    prepared: Prepared
    on_holdout: "Training | None" = None
    """The training that chooses the number of epochs of this one, see `runs.choose_epochs`."""


def start_single_process(training: Training, split: SplitName, title: str | None, cpus: int = 1) -> ray.ObjectRef:
    """Start `run_single_process` as a task of Ray with that many CPUs and torch threads."""
    settings = training.experiment.training
    options = {"num_cpus": cpus, "num_gpus": int(settings.use_gpu), "max_retries": settings.max_failures}
    held_out = training.on_holdout and _plain(training.on_holdout)
    arguments: list[Any] = [*_plain(training), split, title, cpus, held_out]
    return ray.remote(run_single_process).options(**options).remote(*arguments)


def _plain(training: Training) -> tuple[dict[str, Any], str]:
    return training.experiment.model_dump(mode="json", exclude_unset=True), training.prepared.folder.location


def run_single_process(
    experiment: dict[str, Any],
    dataset: str,
    split: SplitName,
    title: str | None,
    threads: int,
    on_holdout: tuple[dict[str, Any], str] | None = None,
) -> dict[str, Any]:
    """Train, and evaluate the epoch of the best score, as `train` does; of an ensemble one member after the other.

    Args:
        experiment: plain tree.
        dataset: location of the prepared data set.
        split: the rows to evaluate on.
        title: name in the progress bar; None for no bar.
        threads: torch threads.
        on_holdout: experiment and data set of the training that chooses the number of epochs, if there is one.

    Returns:
        `metrics` of the split, `baselines` by name, `history` with metrics of each epoch (of the first member), and
        `seconds`.
    """
    began = time.monotonic()
    settings, prepared = parse(experiment, "experiment"), open_prepared(dataset)
    if on_holdout is not None:
        _, history = _train(parse(on_holdout[0], "experiment"), open_prepared(on_holdout[1]), title, threads)
        best = max(history, key=lambda metrics: (metrics[SCORE], metrics["epoch"]))
        settings = for_epochs(settings, best["epoch"], guard_factors(best))
    trained = [
        _train(member, prepared, title_of(title, settings, number), threads)
        for number, member in enumerate(members_of(settings), 1)
    ]
    models, (history, *_) = zip(*trained, strict=True)
    metrics = _evaluate(settings, models, prepared, split) if prepared.schema.num_rows[split] else {}
    return {
        "metrics": metrics,
        "baselines": evaluate_baselines(
            settings.tasks,
            prepared,
            split,
            user=settings.user,
            item=settings.item,
            support_buckets=settings.evaluation.support_buckets,
        ),
        "history": history,
        "seconds": time.monotonic() - began,
    }


def _train(
    settings: Experiment, prepared: Prepared, title: str | None, threads: int
) -> tuple[MultiTaskModel, list[dict[str, Any]]]:
    """Return the model with the weights of the best epoch, and the metrics of each epoch."""
    torch.set_num_threads(settings.training.threads_per_worker or threads)
    trainer = Trainer(settings, prepared.schema, _device(settings))
    if settings.training.warm_start is not None:
        start_from(trainer, prepared, settings.training.warm_start)
    history: list[dict[str, Any]] = []
    best: dict[str, Any] = {}

    def report(metrics: dict[str, Any]) -> None:
        if metrics[SCORE] == WITHIN_EPOCH:
            return
        history.append(metrics)
        if not best or metrics[SCORE] >= best[SCORE]:
            best.update({SCORE: metrics[SCORE], "weights": copy.deepcopy(trainer.evaluated.state_dict())})

    train, valid = (_shard(settings, prepared, split) for split in ("train", "valid"))
    fit(trainer, train, valid, report, title)
    trainer.evaluated.load_state_dict(best["weights"])
    return trainer.evaluated, history


def _evaluate(
    settings: Experiment, models: Sequence[MultiTaskModel], prepared: Prepared, split: SplitName
) -> dict[str, float]:
    """Return the metrics of the mean of models."""
    model = models[0] if len(models) == 1 else Ensemble(models, [1] * len(models), list(settings.tasks))
    rows = _shard(settings, prepared, split)
    return evaluate_model(model, rows, settings.evaluation, weights=settings.weights())


def _device(settings: Experiment) -> torch.device:
    return torch.device("cuda" if settings.training.use_gpu else "cpu")


def _shard(settings: Experiment, prepared: Prepared, split: SplitName) -> Shard:
    """Return all rows of a split. Files are read here: tasks of Ray Data would wait for CPUs that the runs hold."""
    memory = int(settings.training.cache_memory)
    return Shard(prepared.folder, prepared.schema, split, 0, 1, memory, read_directly)
