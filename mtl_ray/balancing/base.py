"""The base of every task weighting: a function from numbers that all workers share to one weight per task."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config import Experiment
from mtl_ray.config.balancing import BalancingConfig
from mtl_ray.config.balancing_base import Space
from mtl_ray.config.base import implementation_of, name_alone, settings_of


class WeightedTasks(NamedTuple):
    """The tasks that a balancer weighs.

    Example:
        >>> weights = torch.tensor([3.0, 1.0], dtype=torch.float64)
        >>> WeightedTasks(["click", "like"], weights, lr=1e-3, main="click", batch_size=1024).relative.tolist()
        [0.75, 0.25]
    """

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

    Example:
        >>> class Inverse(Balancer):
        ...     def weights(self, step):
        ...         return 1 / step.values
        >>> click, like = torch.tensor([2.0, 4.0], requires_grad=True)
        >>> Inverse()(TaskLosses.of([click, like], [1, 1]))[1].tolist()
        [0.5, 0.25]
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
        """Return this worker's part of the training loss, penalty included, and the (T,) weights.

        The parts of all workers add up to the loss of the global batch. DDP averages gradients, so its users multiply
        their part by the number of workers.
        """
        if self.needs_label and not step.present.any():
            loss, weights = sum(step.losses, torch.zeros_like(step.losses[0])), torch.zeros_like(step.values)
            return loss if step.penalty is None else loss + step.penalty, weights
        weights = torch.where(step.present, self.weights(step), 0.0).detach()
        loss = step.weighted_loss(weights.to(step.losses[0].dtype))
        for term in (self.correction(step), step.penalty):
            loss = loss if term is None else loss + term
        return loss, weights

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


def build(
    balancing: BalancingConfig | Mapping[str, Any] | str,
    tasks: Mapping[str, float] | Collection[str],
    *,
    lr: float = 1e-3,
    main: str | None = None,
    batch_size: int = 1024,
) -> Balancer:
    """Build a task weighting, in float64 on the CPU.

    Args:
        balancing: its kind, its settings as the experiment file has them, or its section.
        tasks: names of the tasks, or by name the weights that they declare, relative to each other.
        lr: learning rate of the model's optimizer; learned weights have it, too, unless their settings say otherwise.
        main: the main task; the first one by default.
        batch_size: rows of a global batch.

    Raises:
        ValueError: there is no such kind or setting, or a setting names no task.

    Example:
        >>> balancer = build({"kind": "scheduled", "weights": {"like": {0: 3.0}}}, ["click", "like"])
        >>> click, like = torch.tensor([2.0, 4.0], requires_grad=True)
        >>> loss, weights = balancer(TaskLosses.of([click, like], [1, 1]))
        >>> loss.item(), weights.tolist()
        (3.5, [0.25, 0.75])
    """
    settings = TypeAdapter(Annotated[BalancingConfig, name_alone(BalancingConfig)]).validate_python(balancing)
    declared = dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(tasks, 1.0)
    weights = torch.tensor(list(declared.values()), dtype=torch.float64)
    weighted = WeightedTasks(list(declared), weights, lr, main or next(iter(declared)), batch_size)
    return implementation_of(settings)(settings_of(settings), weighted).double()


def build_balancer(experiment: Experiment) -> Balancer:
    """Build the balancer that the experiment names, see `build`.

    Args:
        experiment: its task weighting, tasks, learning rate and batch size.

    Example:
        >>> from mtl_ray.config import parse
        >>> keys = {"user_id": {"kind": "id", "entity": "user"}, "item_id": {"kind": "id", "entity": "item"}}
        >>> tree = {"name": "shop", "data": {"source": "synthetic"}, "features": keys, "tasks": {"click": "binary"}}
        >>> type(build_balancer(parse(tree | {"balancing": {"kind": "dwa"}}, "shop"))).__name__
        'DWABalancer'
    """
    return build(
        experiment.balancing,
        experiment.declared_weights(),
        lr=experiment.training.optimizer.lr,
        main=experiment.main_task,
        batch_size=experiment.training.batch_size,
    )
