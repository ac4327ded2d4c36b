"""What moves the parameters of the model, and how fast."""

import math
from collections.abc import Callable

import torch
from torch import nn

from mtl_ray.experiment.training import Optimizer, Schedule


def build_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer, with its own weight decay for embedding tables."""
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    groups = [
        {
            "params": [p for p in model.parameters() if id(p) in tables],
            "weight_decay": settings.embedding_weight_decay,
        },
        {"params": [p for p in model.parameters() if id(p) not in tables], "weight_decay": settings.weight_decay},
    ]
    match settings.kind:
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=settings.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=settings.lr)


def learning_rate_factor(schedule: Schedule, epochs: int, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at each step of so many epochs of so many steps.

    Linear warm-up, then decay to `schedule.final`, times the factor of the epoch.
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
