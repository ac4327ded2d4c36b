"""The training of one trial of a search, on rows that all trials of the node share."""

import json
import math
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
import ray.train
import ray.train.torch
import ray.tune
import torch

from mtl_ray.cluster.ray_compat import quiet_tune_checkpoints
from mtl_ray.config import Experiment, parse
from mtl_ray.config.comparison import Changes
from mtl_ray.config.tasks import is_higher_better
from mtl_ray.config.tuning import TuneConfig
from mtl_ray.data.shared import SharedDataset
from mtl_ray.distributed import rank, world_size
from mtl_ray.errors import InputError
from mtl_ray.models.checkpoint import SCORE, WITHIN_EPOCH
from mtl_ray.training.fit import fit, is_over
from mtl_ray.training.state import resume, save_checkpoint
from mtl_ray.training.trainer import Trainer
from mtl_ray.tuning.schedule import changed_from, schedule_changes
from mtl_ray.tuning.space import changes_of, drawn_from, trial_experiment, tune_of, untuned

KEPT, EPOCH, GROUP = "kept", "epoch", "placement_group"
"""Of a report: the searched metrics in the epoch that `train` would keep so far; the number of epochs; by hexadecimal
id, what Ray reserved for the trial's workers, None for a trial in one process."""

STATE = "trial.json"
"""Beside the weights in a trial's checkpoint: its `State`."""


WORST = 1e30
"""Finite, since the Gaussian process of PB2 takes no infinity."""


@dataclass
class State:
    """Where a trial is, and the epoch of its best score so far."""

    epoch: int = 0
    score: float = -math.inf
    kept_epoch: int = 0
    kept: dict[str, float] = field(default_factory=dict)


class UndefinedMetricError(ValueError):
    """A searched metric has no value, as an AUC among labels of one class."""


def searched_metrics(tune: TuneConfig) -> dict[str, bool]:
    """The metrics that a search looks at, and whether higher ones are better."""
    constrained = {c.metric: is_higher_better(c.metric) for c in tune.constraints}
    return constrained | {key: direction == "max" for key, direction in tune.objectives.items()}


def train_trial(config: dict[str, Any], session: ModuleType) -> None:
    """Train from the trial's checkpoint, if any, and report each epoch.

    A report has `metrics` of the epoch, `kept`, `kept_epoch`, `epoch`, `over` (whether it is the last one), `seconds`
    since the start, and `changes`: what makes the trial's experiment of the searched one. Metrics and changes are JSON,
    since of every number in a report Ray Tune keeps statistics in its state. Where the parameters are at fault, so that
    another try would end the same, a report has the worst values and the reason `failed`.

    Args:
        config: `params`, values of the parameters of the space; `experiment`, a plain tree with `tune`; `shared`, the
            reference of the data set, a `SharedDataset`.
        session: whom to ask for the checkpoint and to report to: `ray.tune`, or `ray.train` in one of several workers.
    """
    quiet_tune_checkpoints()
    base = parse(config["experiment"], "experiment")
    tune = tune_of(base)
    try:
        _train(base, tune, config["params"], ray.get(config["shared"]), session)
    except (InputError, FloatingPointError, UndefinedMetricError) as error:  # on all workers alike
        worst = {key: -WORST if higher else WORST for key, higher in searched_metrics(tune).items()}
        session.report({"metrics": "{}", KEPT: worst, "kept_epoch": 0, EPOCH: 0, "over": True, "failed": str(error)})


def _train(
    base: Experiment, tune: TuneConfig, params: dict[str, Any], shared: SharedDataset, session: ModuleType
) -> None:
    began, state = time.monotonic(), State()
    group = ray.util.get_current_placement_group() if session is ray.train else None
    with ExitStack() as stack:
        start = session.get_checkpoint()
        folder = Path(stack.enter_context(start.as_directory())) if start else None
        if folder:
            state = State(**json.loads((folder / STATE).read_text()))
        settings, changes = _settings(base, tune, params, folder, state.epoch)
        training = settings.training
        if session is ray.train:
            threads, device = training.threads_per_worker or training.cpus_per_worker, ray.train.torch.get_device()
        else:
            threads, device = tune.cpus_per_trial, torch.device("cuda" if training.use_gpu else "cpu")
        torch.set_num_threads(max(1, int(threads)))
        trainer = Trainer(settings, shared.prepared.schema, device)
        if folder:
            resume(trainer, folder)

    def report(metrics: dict[str, Any]) -> None:
        score = metrics.pop(SCORE)
        if score == WITHIN_EPOCH:
            return
        state.epoch = metrics.pop("epoch")
        if score >= state.score:
            state.score, state.kept_epoch = score, state.epoch
            state.kept = {key: _defined(metrics, key) for key in searched_metrics(tune)}
        values = {
            "metrics": json.dumps(metrics),
            KEPT: state.kept,
            "kept_epoch": state.kept_epoch,
            EPOCH: state.epoch,
            "over": is_over(trainer),
            "seconds": time.monotonic() - began,
            "changes": json.dumps(changes),
            GROUP: group and group.id.hex(),
        }
        if rank() != 0:
            session.report(values)
            return
        with tempfile.TemporaryDirectory() as place:
            save_checkpoint(trainer, Path(place))
            (Path(place) / STATE).write_text(json.dumps(vars(state)))
            session.report(values, checkpoint=session.Checkpoint.from_directory(place))

    train, valid = (shared.shard(split, rank(), world_size()) for split in ("train", "valid"))
    fit(trainer, train, valid, report, title=None)


def _settings(
    base: Experiment, tune: TuneConfig, params: dict[str, Any], folder: Path | None, epoch: int
) -> tuple[Experiment, Changes]:
    """The trial's experiment, and what it changes; of a population, from that of the copied checkpoint on."""
    changes = changes_of(base, drawn_from(params))
    if not tune.algorithm.is_population:
        return trial_experiment(base, changes), changes
    before = parse(json.loads((folder / "experiment.json").read_text()), "checkpoint") if folder else untuned(base)
    settings = changed_from(before, changes, epoch)
    return settings, schedule_changes(settings)


def _defined(metrics: dict[str, Any], key: str) -> float:
    if key not in metrics:
        raise UndefinedMetricError(f"{key} is not defined on the validation rows with this trial's predictions")
    return metrics[key]
