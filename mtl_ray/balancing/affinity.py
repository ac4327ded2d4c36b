"""Lookahead affinity, the effect of a step on one task on the loss of another; and the tasks that help a target."""

from collections.abc import Callable, Mapping

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
        if balancer.guarded is None:
            return lookahead_affinity(train, validation, self.optimizer)
        return turns(train, validation, self.optimizer, balancer.weights, balancer.guarded)


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
            parameter.data -= move(whole) * whole
        with torch.no_grad():
            after = probe().values
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data.copy_(value)
        affinity[task] = torch.where(before.present & (before.values > 0), 1 - after / before.values, torch.nan)
    return affinity


def turns(
    train: Losses,
    probe: Losses,
    optimizer: torch.optim.Optimizer,
    weights: Callable[[TaskLosses], Tensor],
    target: int,
) -> Tensor:
    """Return how far each task turns a step on all of them towards lower losses of one, over the whole global batch.

    With the step s of the shared parameters on the weighted sum, the part s_i that task i has in it, and the gradient h
    of the target's loss on the probe:

        C_i = cos(s, h) - cos(s - s_i, h)

    It is below 0 if the target would learn faster without task i, by a step of the same length: also of a task that
    does not work against the target, but takes up the step. Adam does make steps of about the same length, whatever the
    gradient. As in `lookahead_affinity`, s is the optimizer's step without momentum and weight decay.

    Args:
        train: returns the losses whose gradients are followed.
        probe: returns the losses of which the target's is to fall.
        optimizer: optimizer of the model.
        weights: returns the (T,) weights of a step.
        target: number of a task.

    Returns:
        (T, T) float64 with C in the column of the target; NaN elsewhere, in its own row, and without labels.
    """
    step, goal = train(), probe()
    parameters, present = step.shared_parameters, step.present & goal.present[target]
    weight = torch.where(step.present, weights(step), 0.0).to(step.losses[0].dtype)
    found = torch.full((len(step.losses),) * 2, torch.nan, dtype=torch.float64, device=step.values.device)
    fall = [sum_over_ranks(own) for own in goal.gradient(goal.losses[target], parameters)]
    whole = [sum_over_ranks(own) for own in step.gradient(weight @ torch.stack(tuple(step.losses)), parameters)]
    rates = [move(gradient) for move, gradient in zip(_moves(optimizer, parameters), whole, strict=True)]
    whole = [rate * gradient for rate, gradient in zip(rates, whole, strict=True)]
    for task in range(len(step.losses)):
        if task == target or not present[task]:
            continue
        gradients = step.gradient(weight[task] * step.losses[task], parameters)
        parts = (rate * sum_over_ranks(own) for rate, own in zip(rates, gradients, strict=True))
        rest = [all_tasks - part for all_tasks, part in zip(whole, parts, strict=True)]
        found[task, target] = _cosine(whole, fall) - _cosine(rest, fall)
    return found


def _cosine(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Return the () float64 cosine of two lists of tensors as one vector each; NaN if one is 0."""
    pairs = ((first, second), (first, first), (second, second))
    product, *squares = (
        torch.stack([(x.double() * y.double()).sum() for x, y in zip(*pair, strict=True)]).sum() for pair in pairs
    )
    return product / (squares[0] * squares[1]).sqrt()


Move = Callable[[Tensor], Tensor]


def _moves(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> list[Move]:
    """Return, by parameter, the learning rates of its numbers for a gradient, as factors of it.

    They are those of the optimizer if its running mean of gradients were 0 before.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return [_move(groups[id(p)], optimizer.state.get(p, {})) for p in parameters]


def _move(group: Mapping, state: Mapping) -> Move:
    lr = group["lr"]
    if "betas" not in group:
        return lambda gradient: torch.full_like(gradient, lr)
    (beta1, beta2), step = group["betas"], float(state.get("step", 0.0)) + 1

    def adam(gradient: Tensor) -> Tensor:
        square = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * gradient**2
        return lr * (1 - beta1) / (1 - beta1**step) / ((square / (1 - beta2**step)).sqrt() + group["eps"])

    return adam


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
