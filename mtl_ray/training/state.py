"""The state of a training in a checkpoint: a run resumed from it equals one that was never interrupted."""

from pathlib import Path
from typing import Any

from mtl_ray.config.custom import classes_of
from mtl_ray.models import checkpoint
from mtl_ray.training.progress import Progress
from mtl_ray.training.trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Return everything that a resumed run needs beside the evaluated weights."""
    return {
        "model": trainer.model.state_dict() if trainer.average is not None else None,
        "num_averaged": None if trainer.average is None else trainer.average.n_averaged,
        **trainer.optimizers.state(),
        "scaler": trainer.precision.scaler.state_dict(),
        "balancer": trainer.balancer.state_dict(),
        "monitor": trainer.monitor.state(),
        "progress": vars(trainer.progress),
    }


def save_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Write a checkpoint of a training."""
    checkpoint.save(folder, trainer.experiment, trainer.schema, trainer.evaluated, state_of(trainer))


def resume(trainer: Trainer, folder: Path) -> None:
    """Continue from a checkpoint folder as if never interrupted."""
    state = checkpoint.load_trainer(folder)
    trainer.evaluated.load_state_dict(checkpoint.load(folder, classes_of(trainer.experiment)).model.state_dict())
    if trainer.average is not None:
        trainer.model.load_state_dict(state["model"])
        trainer.average.n_averaged.copy_(state["num_averaged"])
    trainer.optimizers.load(state)
    trainer.precision.scaler.load_state_dict(state["scaler"])
    trainer.balancer.load_state_dict(state["balancer"])
    trainer.monitor.resume(state["monitor"])
    trainer.progress = Progress(**state["progress"])
