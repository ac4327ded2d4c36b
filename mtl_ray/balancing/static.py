"""Weights that the experiment file gives: constant, or by epoch."""

from collections.abc import Mapping

from torch import Tensor

from mtl_ray.balancing.base import Balancer
from mtl_ray.balancing.task_losses import TaskLosses


class StaticBalancer(Balancer):
    """L = sum_t w_t L_t."""

    needs_label = False
    declared: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("declared", weights, persistent=False)

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        return self.declared


class ScheduledBalancer(StaticBalancer):
    """Weights that are constant within an epoch: of task t in epoch e, the last one of its schedule that began by e.

    Args:
        weights: (T,) before a schedule begins, and for tasks without one.
        schedule: by number of the task, first epoch -> weight.
    """

    def __init__(self, weights: Tensor, schedule: Mapping[int, Mapping[int, float]]) -> None:
        super().__init__(weights)
        self.schedule = schedule

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        weights = self.declared.clone()
        for task, changes in self.schedule.items():
            begun = [first for first in changes if first <= step.epoch]
            if begun:
                weights[task] = changes[max(begun)]
        return weights
