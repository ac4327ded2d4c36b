"""The base of every task weighting: a function from numbers that all workers share to one weight per task."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config import Experiment
from mtl_ray.config.balancing_base import Space
from mtl_ray.config.base import implementation_of, settings_of


class WeightedTasks(NamedTuple):
    """The tasks that a balancer weighs."""

    names: list[str]
    declared: Tensor
    """(T,) float64 weights that the tasks declare, relative to each other."""
    lr: float
    """Learning rate of the model's optimizer."""
    main: str
    """The main task."""
    batch_size: int

    @property
    def relative(self) -> Tensor:
        """(T,) the declared weights, divided by their sum."""
        return relative(self.declared)


def relative(weights: Tensor) -> Tensor:
    """Return (T,) weights divided by their sum; zeros stay."""
    return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


class Balancer(nn.Module, ABC):
    """The weights w_t of a step; the training loss is sum_t w_t L_t.

    A scalarization s(L_1, ..., L_T) has the weights ds/dL_t, since its gradient is sum_t ds/dL_t grad L_t. Weights
    carry no gradient. Parameters and buffers are float64, equal on all workers, and unknown to the model's optimizer.

    A class of the user's own is made of its settings and the `WeightedTasks`. It declares `gradient_space`, and
    `sample`, `probe_rows` and `probe_every` if it needs them, on the class, since settings are checked against them.
    """

    gradient_space: Space | None = None
    """Tensors on which a class of the user's own compares gradients: `representation`, as by `TaskLosses.gramian`, or
    `parameters`; None if it reads loss values alone."""
    needs_label = True
    """True if weights are computed only when some task has a label; to find out takes a number from the device."""
    sample = 0.0
    """Share of the batch's rows on which `after` gets the losses once the model has moved."""
    probe_rows = 0
    """Validation rows that `reward` needs."""
    probe_every = 0
    """Steps between two calls of `reward`."""
    guarded: int | None = None
    """The task for which `reward` gets what `affinity.turns` returns; None for lookahead affinities."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer: torch.optim.Optimizer | None = None
        """Optimizer of the balancer's own parameters."""

    @abstractmethod
    def weights(self, step: TaskLosses) -> Tensor:
        """Return the (T,) float64 weights of this step; those of tasks without a label do not matter."""

    def correction(self, step: TaskLosses) -> Tensor | None:
        """Return a scalar to add to the loss, for a method whose step is no combination of the tasks' gradients."""
        return None

    def forward(self, step: TaskLosses) -> tuple[Tensor, Tensor]:
        """Return this worker's part of the training loss, and the (T,) weights."""
        if self.needs_label and not step.present.any():
            return sum(step.losses, torch.zeros_like(step.losses[0])), torch.zeros_like(step.values)
        weights = torch.where(step.present, self.weights(step), 0.0).detach()
        loss = step.weighted_loss(weights.to(step.losses[0].dtype))
        correction = self.correction(step)
        return loss if correction is None else loss + correction, weights

    def after(self, before: TaskLosses, after: TaskLosses) -> None:
        """Learn from the losses on the sample of the same global batch before and after the step."""

    def reward(self, affinity: Tensor) -> None:
        """Learn from (T, T) effects of tasks on tasks on validation rows: lookahead affinities, or see `guarded`."""

    def metrics(self) -> dict[str, float]:
        """Return what is to be kept of each epoch, by name."""
        return {}

    def end_epoch(self, means: Tensor) -> None:
        """Learn from the (T,) mean losses of the epoch; NaN for a task without any label."""

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the balancer's own optimizer."""
        return {} if self.optimizer is None else self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the balancer's own optimizer."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state)


def build_balancer(experiment: Experiment) -> Balancer:
    """Build the balancer that the experiment names, in float64."""
    declared = torch.tensor(list(experiment.declared_weights().values()), dtype=torch.float64)
    lr, batch_size = experiment.training.optimizer.lr, experiment.training.batch_size
    tasks = WeightedTasks(list(experiment.tasks), declared, lr, experiment.main_task, batch_size)
    return implementation_of(experiment.balancing)(settings_of(experiment.balancing), tasks).double()
