"""Optimizers of the model's parameters, and their learning rates."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mtl_ray.config import Experiment
from mtl_ray.config.training import OptimizerConfig, ScheduleConfig, SparseTablesConfig
from mtl_ray.models.id_bias import bias_tables
from mtl_ray.models.sparse import sparse_parameters
from mtl_ray.training.sparse_embeddings import (
    build_sparse_optimizer,
    check_sparse,
    decay_rows,
    decay_whole,
    share_rows,
)

SWEEPS = 16
"""Times in an epoch at which all rows of a table that is trained row by row decay, under `embedding_decay`."""


class Optimizers:
    """A dense optimizer, and a sparse one for tables of which a step moves only the rows of its batch."""

    def __init__(
        self,
        model: nn.Module,
        settings: OptimizerConfig,
        steps: int,
        *,
        sparse_tables: SparseTablesConfig | None = None,
        schedule: ScheduleConfig = ScheduleConfig(),  # noqa: B008 - it is frozen
        epochs: int = 1,
        clip_norm: float | None = None,
    ) -> None:
        """Build the optimizers of a model.

        Args:
            model: the model.
            settings: kind, learning rate and decay.
            steps: steps per epoch.
            sparse_tables: settings for tables that are trained row by row; the model may have none without it.
            schedule: factor of the learning rate.
            epochs: epochs over which the schedule goes.
            clip_norm: largest norm of the gradient of all parameters.
        """
        self.model, self.clip_norm = model, clip_norm
        self.sparse = list(sparse_parameters(model).values())
        undecayed = {id(parameter) for parameter in bias_tables(model)}
        self.decayed = [parameter for parameter in self.sparse if id(parameter) not in undecayed]
        self.dense = build_optimizer(model, settings, steps)
        self.all: list[torch.optim.Optimizer] = [self.dense]
        self.decay = 0.0
        """Weight decay of tables that are trained row by row."""
        self.every = 0
        """Steps between two times at which all of their rows decay; 0 if those that a step reads do."""
        if self.sparse and sparse_tables is not None:
            torch.sparse.check_sparse_tensor_invariants.disable()  # their checks cost time, and torch wants to be told
            lr = sparse_tables.lr or settings.lr
            self.decay = settings.table_decay(steps, lr)
            if settings.embedding_decay is not None:
                self.every = max(1, steps // SWEEPS)
            self.all.append(build_sparse_optimizer(self.sparse, sparse_tables, lr))
        factor = learning_rate_factor(schedule, epochs, steps)
        self.schedulers = [LambdaLR(optimizer, factor) for optimizer in self.all]

    def step(self, scaler: torch.amp.GradScaler) -> None:
        """Move the parameters by their gradients, and clear these."""
        share_rows(self.sparse)
        if self.clip_norm:
            for optimizer in self.all:
                scaler.unscale_(optimizer)
            clip_gradients(self.model, self.clip_norm)
        if self.decayed and self.decay:
            self._decay_tables(self.all[-1].param_groups[0]["lr"] * self.decay)
        for optimizer in self.all:
            scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        scaler.update()
        for scheduler in self.schedulers:
            scheduler.step()

    def _decay_tables(self, factor: float) -> None:
        """Decay the tables that are trained row by row: the rows of the step, or now and then all of them."""
        if not self.every:
            decay_rows(self.decayed, factor)
        elif (self.schedulers[0].last_epoch + 1) % self.every == 0:  # the number of this step
            decay_whole([table for table in self.decayed if table.requires_grad], factor * self.every)

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        optimizers, schedulers = ([part.state_dict() for part in parts] for parts in (self.all, self.schedulers))
        return {"optimizers": optimizers, "schedulers": schedulers}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a saved `state`; the schedule may change from here on."""
        for optimizer, scheduler, own, schedule in zip(
            self.all, self.schedulers, state["optimizers"], state["schedulers"], strict=True
        ):
            optimizer.load_state_dict(own)
            scheduler.load_state_dict(schedule)
            factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
            for group, base, factor in zip(optimizer.param_groups, scheduler.base_lrs, factors, strict=True):
                group["lr"] = base * factor


def build_optimizers(model: nn.Module, experiment: Experiment, steps: int) -> Optimizers:
    """Build the optimizers of an experiment with a schedule of `steps` steps per epoch.

    Raises:
        InputError: see `check_sparse`.
    """
    training = experiment.training
    if sparse_parameters(model):
        check_sparse(experiment)
    return Optimizers(
        model,
        training.optimizer,
        steps,
        sparse_tables=training.sparse_tables,
        schedule=training.schedule,
        epochs=training.epochs,
        clip_norm=training.clip_norm,
    )


def clip_gradients(model: nn.Module, largest: float) -> None:
    """Scale all gradients so that their joint norm is at most `largest`; sparse ones must be coalesced."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    numbers = [gradient.values() if gradient.is_sparse else gradient for gradient in gradients]
    total = nn.utils.get_total_norm(numbers)
    factor = (largest / (total + 1e-6)).clamp(max=1.0)
    for each in numbers:
        each.mul_(factor)


def build_optimizer(model: nn.Module, settings: OptimizerConfig, steps: int) -> torch.optim.Optimizer:
    """Build the optimizer of parameters with dense gradients.

    Embedding tables have a weight decay of their own, and tables of biases none.

    Args:
        model: the model.
        settings: kind, learning rate and decay.
        steps: steps per epoch.
    """
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    tables = {id(m.weight) for m in embeddings}
    sparse, undecayed = {id(m.weight) for m in embeddings if m.sparse}, {id(p) for p in bias_tables(model)}
    dense = [p for p in model.parameters() if id(p) not in sparse]
    decayed = [p for p in dense if id(p) not in undecayed]
    groups = [
        {"params": [p for p in decayed if id(p) in tables], "weight_decay": settings.table_decay(steps, settings.lr)},
        {"params": [p for p in decayed if id(p) not in tables], "weight_decay": settings.weight_decay},
    ]
    if undecayed:  # a checkpoint of a model without biases has two groups
        groups.append({"params": [p for p in dense if id(p) in undecayed], "weight_decay": 0.0})
    match settings.kind:
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=settings.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=settings.lr)


def learning_rate_factor(schedule: ScheduleConfig, epochs: int, steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the step.

    It is a linear warm-up, then a decay to `schedule.final`, times the factor of the epoch.

    Args:
        schedule: shape of the decay.
        epochs: number of epochs.
        steps: steps per epoch.
    """
    total = epochs * steps

    def of_epoch(step: int) -> float:
        begun = [first for first in schedule.epochs if first * steps <= step]
        return schedule.epochs[max(begun)] if begun else 1.0

    def of_step(step: int) -> float:
        if step < schedule.warmup_steps:
            return (step + 1) / schedule.warmup_steps
        if schedule.kind == "constant":
            return 1.0
        done = min(1.0, (step - schedule.warmup_steps) / max(1, total - schedule.warmup_steps))
        shape = 1 - done if schedule.kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return schedule.final + (1 - schedule.final) * shape

    return lambda step: of_step(step) * of_epoch(step)
