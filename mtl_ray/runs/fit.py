"""Run Ray Train to its end, for a run or for a part of one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train
from pyarrow.fs import LocalFileSystem
from ray.train.torch import TorchConfig

from mtl_ray.cluster.session import shows_bars
from mtl_ray.config import Experiment
from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.data.dataset import Prepared
from mtl_ray.models.checkpoint import SCORE
from mtl_ray.runs.callbacks import EpochLogger
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.lifecycle import finish_on_exit
from mtl_ray.runs.ray_trainer import RayTrainer
from mtl_ray.runs.recovery import delete_orphan_checkpoints, restore_manifest, wait_until_idle
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.worker import train_worker, workers_of


@contextmanager
def child_run(experiment: Experiment, name: str, folder: RunFolder, parent: Run, resume_command: str) -> Iterator[Run]:
    """Yield the child run in MLflow of a part of a training, whose folder is made ready to start or to go on.

    Args:
        experiment: the experiment of the part.
        name: name of the child run.
        folder: folder of the part, within that of the run.
        parent: the run.
        resume_command: the command that continues.
    """
    child = Run.start(experiment, name, folder.create(), parent.run_id)
    wait_until_idle(folder)
    restore_manifest(folder)
    EpochLogger(experiment, child, folder, bars=True).log_lost()
    with finish_on_exit(child, lambda _: None, resume_command):
        yield child


def fit(
    experiment: Experiment,
    prepared: Prepared,
    folder: RunFolder,
    run: Run,
    *,
    trace: str | None = None,
    title: str = "",
    beside: int = 1,
    started: Callable[[Any], None] | None = None,
) -> ray.train.Result:
    """Train from the last checkpoint of the folder, if there is one, to the end.

    Args:
        experiment: what to train.
        prepared: its data set.
        folder: receives the checkpoints.
        run: its run in MLflow.
        trace: folder that receives a profiler's trace of some steps.
        title: text before the names of the epochs.
        beside: trainings that share the cores of a machine, this one included.
        started: receives the controller, see `RayTrainer`; for a training beside the main thread.

    Raises:
        KeyboardInterrupt: after Ctrl-C in the main thread, once the workers have ended.
        InputError: training cannot go on, and another try would end the same.
        FloatingPointError: the loss is not finite.
    """
    config = {
        "experiment": stage_models(experiment, folder).model_dump(mode="json", exclude_unset=True),
        "dataset": prepared.folder.location,
        "bars": shows_bars(),
        "trace": trace,
        "title": title,
        "beside": beside,
    }
    trainer = RayTrainer(
        train_worker,
        started=started,
        train_loop_config=config,
        scaling_config=workers_of(experiment.training),
        torch_config=TorchConfig(timeout_s=experiment.training.timeout),
        run_config=ray.train.RunConfig(
            name=folder.name,
            storage_path=Folder(experiment.training.output).location,
            failure_config=ray.train.FailureConfig(max_failures=experiment.training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute=SCORE, checkpoint_score_order="max"
            ),
            callbacks=[
                EpochLogger(experiment, run, folder, config["bars"], title),
                *(implementation_of(own)(settings_of(own)) for own in experiment.training.driver_callbacks),
            ],
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    result = _result_of(trainer)
    delete_orphan_checkpoints(folder)
    if result.return_value is not None:
        raise result.return_value
    return result


def _result_of(trainer: RayTrainer) -> ray.train.Result:
    """Return the trainer's result, or raise KeyboardInterrupt after Ctrl-C once its workers have ended.

    In the main thread Ray handles Ctrl-C itself: it ends the workers in order, but then exits the process, and its
    handler would stay for the rest of the process.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def best_checkpoint(result: Any) -> ray.train.Checkpoint:
    """Return the checkpoint with the best score, the later one of equals."""
    kept = [(metrics[SCORE], metrics["epoch"], checkpoint) for checkpoint, metrics in result.best_checkpoints]
    return max(kept, key=lambda entry: entry[:2])[2]


def local_folder(checkpoint: ray.train.Checkpoint) -> Path:
    """Return the checkpoint's folder, or a local copy if it lies on another filesystem."""
    if isinstance(checkpoint.filesystem, LocalFileSystem):
        return Path(checkpoint.path)
    return Path(checkpoint.to_directory())
