"""Lookahead affinity, the effect of a step on one task on the loss of another; and the tasks that help a target."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl_ray.balancing.base import Balancer
from mtl_ray.balancing.diagnostics import Monitor
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.distributed import sum_over_ranks

Losses = Callable[[], TaskLosses]


class Lookahead:
    """Measures affinities in the steps in which the monitor or the balancer wants them.

    Args:
        model: in training mode; measured in evaluation mode, that is without dropout.
        optimizer: optimizer of the model.
        balancer: gets the affinities to losses on validation rows as its reward.
        monitor: gets the affinities to losses on the training batch.
        monitor_every: steps between two measurements for the monitor; 0 for none.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        balancer: Balancer,
        monitor: Monitor,
        monitor_every: int,
    ) -> None:
        self.model, self.optimizer, self.balancer, self.monitor = model, optimizer, balancer, monitor
        self.monitor_every = monitor_every

    def __call__(self, step: int, train: Losses, validation: Losses) -> None:
        """Measure whatever is due in a step of the epoch, from the losses of its batch and of validation rows."""
        is_due = [bool(every) and step % every == 0 for every in (self.monitor_every, self.balancer.probe_every)]
        if not any(is_due):
            return
        for_monitor, for_balancer = is_due
        self.model.eval()
        if for_monitor:
            self.monitor.observe_affinity(lookahead_affinity(train, train, self.optimizer))
        if for_balancer:
            self.balancer.reward(self._effects(train, validation))
        self.model.train()

    def _effects(self, train: Losses, validation: Losses) -> Tensor:
        """Return the effects of tasks on tasks that the balancer learns from."""
        balancer = self.balancer
        if balancer.left_out is None:
            return lookahead_affinity(train, validation, self.optimizer)
        return leave_one_out(train, validation, self.optimizer, balancer.weights, balancer.left_out)


def lookahead_affinity(train: Losses, probe: Losses, optimizer: torch.optim.Optimizer) -> Tensor:
    """Return the lookahead affinity of every pair of tasks over the whole global batch (TAG, Fifty et al. 2021).

    Z_ij = 1 - L_j(after a step of the shared parameters on task i alone) / L_j(before). The step is the part that the
    gradient of task i has in the optimizer's: for Adam with its running mean square of each parameter's gradient, but
    without the momentum of earlier steps and without weight decay. The parameters are restored. The paper takes both
    losses from the training batch.

    Args:
        train: returns the losses whose gradients are followed.
        probe: returns the losses that are compared; called once before and once after each task's step.
        optimizer: optimizer of the model.

    Returns:
        (T, T) float64 affinities; NaN where task i has no label in `train` or task j none in `probe`.
    """
    step = train()
    with torch.no_grad():
        before = probe()
    num_tasks = len(step.losses)
    affinity = torch.full((num_tasks, num_tasks), torch.nan, dtype=torch.float64, device=step.values.device)
    parameters = step.shared_parameters
    moves = _moves(optimizer, parameters)
    kept = [parameter.detach().clone() for parameter in parameters]
    for task in range(num_tasks):
        if not step.present[task]:
            continue
        gradient = step.gradient(step.losses[task], parameters)
        # `data`, since autograd would refuse the next gradient of a graph whose parameters were changed and put back.
        for parameter, own, move in zip(parameters, gradient, moves, strict=True):
            whole = sum_over_ranks(own)
            parameter.data -= move.now * move.rate(whole) * whole
        with torch.no_grad():
            after = probe().values
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data.copy_(value)
        affinity[task] = torch.where(before.present & (before.values > 0), 1 - after / before.values, torch.nan)
    return affinity


def leave_one_out(
    train: Losses,
    probe: Losses,
    optimizer: torch.optim.Optimizer,
    weights: Callable[[TaskLosses], Tensor],
    left_out: Sequence[int],
) -> Tensor:
    """Return what each task adds to a step on the weighted sum of all, over the whole global batch.

    G_ij = 1 - L_j(after the step) / L_j(after the step without task i): above 0 if task i helps task j. The step is
    all that the gradient will have moved the shared parameters by once the optimizer's momentum is spent; the running
    mean square of Adam stays that of all tasks. The parameters are restored.

    Args:
        train: returns the losses whose gradients are followed.
        probe: returns the losses that are compared.
        optimizer: optimizer of the model.
        weights: returns the (T,) weights of a step.
        left_out: the tasks i that are left out, one at a time.

    Returns:
        (T, T) float64 G; NaN in the rows of other tasks, and where task i has no label in `train` or j none in `probe`.
    """
    step = train()
    values, parameters = step.values, step.shared_parameters
    weight = torch.where(step.present, weights(step), 0.0).to(step.losses[0].dtype)
    gain = torch.full((len(step.losses),) * 2, torch.nan, dtype=torch.float64, device=values.device)
    kept = [parameter.detach().clone() for parameter in parameters]
    total = [sum_over_ranks(own) for own in step.gradient(weight @ torch.stack(tuple(step.losses)), parameters)]
    rates = [move.rate(own) for move, own in zip(_moves(optimizer, parameters), total, strict=True)]

    def after(gradients: Sequence[Tensor]) -> TaskLosses:
        # `data`, see above. Gradients are taken where the parameters are as they were.
        for parameter, own, rate in zip(parameters, gradients, rates, strict=True):
            parameter.data -= rate * own
        with torch.no_grad():
            found = probe()
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data.copy_(value)
        return found

    together = after(total)
    for task in left_out:
        if step.present[task]:
            own = [sum_over_ranks(g) for g in step.gradient(weight[task] * step.losses[task], parameters)]
            without = after([whole - part for whole, part in zip(total, own, strict=True)])
            is_known = without.present & (without.values > 0)
            gain[task] = torch.where(is_known, 1 - together.values / without.values, torch.nan)
    return gain


class _Move(NamedTuple):
    """What the optimizer makes of a parameter's gradient."""

    rate: Callable[[Tensor], Tensor | float]
    """Returns, for the gradient of a step, the learning rate of each number: what it will have moved by over all steps
    in which the momentum lasts, as a factor of the gradient."""
    now: float
    """The share of it that moves the parameter in the gradient's own step."""


def _moves(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> list[_Move]:
    """Return the moves by parameter, if its running mean of gradients were 0 before."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return [_move(groups[id(p)], optimizer.state.get(p, {})) for p in parameters]


def _move(group: Mapping, state: Mapping) -> _Move:
    lr = group["lr"]
    if "betas" not in group:
        now = 1 - group.get("momentum", 0.0)
        return _Move(lambda _: lr / now, now)
    (beta1, beta2), step = group["betas"], float(state.get("step", 0.0)) + 1

    def rate(gradient: Tensor) -> Tensor:
        square = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * gradient**2
        return lr / ((square / (1 - beta2**step)).sqrt() + group["eps"])

    return _Move(rate, (1 - beta1) / (1 - beta1**step))


def helpful_tasks(affinity: Mapping[str, Mapping[str, float]], target: str) -> list[str]:
    """Return the auxiliary tasks to train with a target: those with a positive mean affinity to it, the best first.

    The paper searches for groups with the largest sum of affinities over all tasks. For one target and tasks that are
    free to join, these are the tasks with a positive affinity.

    Args:
        affinity: affinities by the task that takes a step, then by the task whose loss is compared.
        target: name of a task.
    """
    gains = {task: row[target] for task, row in affinity.items() if task != target and row.get(target, 0.0) > 0}
    return sorted(gains, key=lambda task: -gains[task])


def affinity_of(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return affinities by pair of tasks from metrics `affinity/A/B`."""
    table: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        prefix, _, pair = key.partition("/")
        if prefix == "affinity":
            first, _, second = pair.partition("/")
            table.setdefault(first, {})[second] = value
    return table
