"""Weights that the experiment file gives: constant, equal, or by epoch."""

import torch
from torch import Tensor

from mtl_ray.balancing.base import Balancer, WeightedTasks, relative
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config.balancing import EqualBalancingConfig, ScheduledBalancingConfig, StaticBalancingConfig


class StaticBalancer(Balancer):
    """L = sum_t a_t L_t / sum_t a_t with the declared weights a."""

    needs_label = False
    declared: Tensor

    def __init__(
        self,
        settings: StaticBalancingConfig | EqualBalancingConfig | ScheduledBalancingConfig,
        tasks: WeightedTasks,
    ) -> None:
        super().__init__()
        self.register_buffer("declared", tasks.declared, persistent=False)

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        return relative(self.declared)


class EqualBalancer(StaticBalancer):
    """L = 1/T sum_t L_t."""

    def __init__(self, settings: EqualBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__(settings, tasks._replace(declared=torch.ones_like(tasks.declared)))


class ScheduledBalancer(StaticBalancer):
    """Weights that are constant within an epoch.

    The weight of a task in epoch e is the last one of its schedule that began by e; before that, and for a task without
    a schedule, it is the declared weight. All are divided by their sum.
    """

    def __init__(self, settings: ScheduledBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__(settings, tasks)
        self.schedule = {tasks.names.index(name): changes for name, changes in settings.weights.items()}

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        weights = self.declared.clone()
        for task, changes in self.schedule.items():
            begun = [first for first in changes if first <= step.epoch]
            if begun:
                weights[task] = changes[max(begun)]
        return relative(weights)
