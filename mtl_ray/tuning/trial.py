"""Train one trial of a search, on rows that all trials of a node share."""

import json
import math
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
import ray.train
import ray.train.torch
import ray.tune
import torch
from pydantic import BaseModel, ConfigDict, Field

from mtl_ray.cluster.ray_compat import quiet_tune_checkpoints
from mtl_ray.config import Experiment, parse
from mtl_ray.config.comparison import Changes
from mtl_ray.config.custom import classes_of
from mtl_ray.config.tasks import is_higher_better
from mtl_ray.config.tuning import TuneConfig
from mtl_ray.data.shared import SharedDataset
from mtl_ray.distributed import rank, world_size
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.models.checkpoint import SCHEMA, SCORE, SETTINGS, WEIGHTS, WITHIN_EPOCH
from mtl_ray.storage import Folder
from mtl_ray.training.fit import fit, is_over
from mtl_ray.training.state import resume, save_checkpoint
from mtl_ray.training.trainer import Trainer
from mtl_ray.tuning.schedule import changed_from, schedule_changes
from mtl_ray.tuning.space import changes_of, drawn_from, trial_experiment, tune_of, untuned

EPOCH = "epoch"
"""Key of a report: the number of epochs so far."""

BEST_METRICS, BEST_EPOCH = "kept", "kept_epoch"
"""Keys of a report, and of a trial's files: the epoch whose checkpoint `train` would select so far, and its searched
metrics."""

GROUP = "placement_group"
"""Key of a report: hexadecimal id of the trial's placement group in Ray; None for a trial in one process."""

STATE = "trial.json"
"""File beside the weights in a trial's checkpoint, with its `State`."""

MODEL_FILES = (SETTINGS, SCHEMA, WEIGHTS)
"""Files of a checkpoint from which its model can be rebuilt; the weights come last."""

WORST = 1e30
"""Reported value of a failed trial. It is finite, since the Gaussian process of PB2 takes no infinity."""


class State(BaseModel):
    """The progress of a trial, and the epoch of its best score so far."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    epoch: int = 0
    score: float = -math.inf
    best_epoch: int = Field(default=0, alias=BEST_EPOCH)
    best_metrics: dict[str, float] = Field(default={}, alias=BEST_METRICS)


class UndefinedMetricError(ValueError):
    """A searched metric is undefined, such as an AUC among labels of one class."""


def searched_metrics(tune: TuneConfig) -> dict[str, bool]:
    """Return the metrics of objectives and constraints, and whether higher is better."""
    constrained = {c.metric: is_higher_better(c.metric) for c in tune.constraints}
    return constrained | {key: direction == "max" for key, direction in tune.objectives.items()}


def train_trial(config: dict[str, Any], session: ModuleType) -> None:
    """Train from the trial's checkpoint, if any, and report each epoch.

    A report has the `metrics` of the epoch, the best epoch so far and its searched metrics, `epoch`, `over` (true in
    the last report), `seconds` since the start, and `changes`, which turn the searched experiment into the trial's.
    Metrics and changes are JSON texts, since Ray Tune keeps statistics of every number in a report. If the parameters
    are at fault, so that another try would end the same, the report has the worst values and the reason as `failed`.

    Args:
        config: `params`, values of the parameters of the space; `experiment`, a plain tree with `tune`; `shared`, a
            reference to a `SharedDataset`; `kept`, the folder that receives the model of the best epoch, or None.
        session: the module that gives the checkpoint and takes reports: `ray.tune`, or `ray.train` with several
            workers.
    """
    quiet_tune_checkpoints()
    base = parse(config["experiment"], "experiment")
    tune = tune_of(base)
    try:
        kept = config.get("kept") and Folder(config["kept"])
        _train(base, tune, config["params"], ray.get(config["shared"]), session, kept)
    except (InputError, FloatingPointError, UndefinedMetricError) as error:  # on all workers alike
        worst = {key: -WORST if higher else WORST for key, higher in searched_metrics(tune).items()}
        session.report(
            {"metrics": "{}", BEST_METRICS: worst, BEST_EPOCH: 0, EPOCH: 0, "over": True, "failed": str(error)}
        )


def _train(
    base: Experiment,
    tune: TuneConfig,
    params: dict[str, Any],
    shared: SharedDataset,
    session: ModuleType,
    kept: Folder | None = None,
) -> None:
    began, state = time.monotonic(), State()
    group = ray.util.get_current_placement_group() if session is ray.train else None
    with ExitStack() as stack:
        start = session.get_checkpoint()
        folder = Path(stack.enter_context(start.as_directory())) if start else None
        if folder:
            state = Folder(str(folder)).read_model(STATE, State)
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
        state.epoch, before = metrics.pop("epoch"), state.best_epoch
        if score >= state.score:
            state.score, state.best_epoch = score, state.epoch
            state.best_metrics = {key: _defined(metrics, key) for key in searched_metrics(tune)}
        values = {
            "metrics": json.dumps(metrics),
            BEST_METRICS: state.best_metrics,
            BEST_EPOCH: state.best_epoch,
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
            (Path(place) / STATE).write_text(state.model_dump_json(by_alias=True))
            if kept and state.best_epoch == state.epoch:
                _keep(Path(place), kept, state.epoch, before)
            session.report(values, checkpoint=session.Checkpoint.from_directory(place))

    train, valid = (shared.shard(split, rank(), world_size()) for split in ("train", "valid"))
    fit(trainer, train, valid, report, title=None)


def _keep(place: Path, kept: Folder, epoch: int, before: int) -> None:
    """Copy the model of a checkpoint into a folder named by its epoch, beside that of the best epoch before.

    That one stays, since a process that is killed now goes back to it.
    """
    for name in MODEL_FILES:
        (kept / str(epoch)).write_bytes(name, (place / name).read_bytes())
    for other in set(kept.entries()) - {str(epoch), str(before)}:
        (kept / other).delete()


def _settings(
    base: Experiment, tune: TuneConfig, params: dict[str, Any], folder: Path | None, epoch: int
) -> tuple[Experiment, Changes]:
    """Return the trial's experiment and its changes. A member of a population continues a copied checkpoint's."""
    changes = changes_of(base, drawn_from(params))
    if not tune.algorithm.is_population:
        return trial_experiment(base, changes), changes
    before = checkpoint.load_settings(folder, classes_of(base)) if folder else untuned(base)
    settings = changed_from(before, changes, epoch)
    return settings, schedule_changes(settings)


def _defined(metrics: dict[str, Any], key: str) -> float:
    if key not in metrics:
        raise UndefinedMetricError(f"{key} is not defined on the validation rows with this trial's predictions")
    return metrics[key]
