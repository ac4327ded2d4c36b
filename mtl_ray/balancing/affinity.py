"""How a step on one task changes the loss of another: lookahead affinity, and the tasks that help a target."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.distributed import sum_over_ranks


def lookahead_affinity(
    train: Callable[[], TaskLosses], probe: Callable[[], TaskLosses], optimizer: torch.optim.Optimizer
) -> Tensor:
    """Lookahead affinity of every pair of tasks (TAG, Fifty et al. 2021), of the whole global batch.

    Z_ij = 1 - L_j(after a step of the shared parameters on task i alone) / L_j(before). The step is what the gradient
    of task i adds to the optimizer's: for Adam with its running mean square of each parameter's gradient, without the
    momentum of earlier steps and without weight decay. The parameters are put back. The paper takes both losses from
    the training batch.

    Args:
        train: the step whose gradients are followed.
        probe: the step whose losses are compared; called once before and once after each task's step.
        optimizer: of the model.

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
            parameter.data -= move(sum_over_ranks(own))
        with torch.no_grad():
            after = probe().values
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.data.copy_(value)
        affinity[task] = torch.where(before.present & (before.values > 0), 1 - after / before.values, torch.nan)
    return affinity


Move = Callable[[Tensor], Tensor]


def _moves(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> list[Move]:
    """By parameter, what the optimizer takes off it for a gradient, if its running mean of gradients were 0 before."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return [_move(groups[id(p)], optimizer.state.get(p, {})) for p in parameters]


def _move(group: Mapping, state: Mapping) -> Move:
    lr = group["lr"]
    if "betas" not in group:
        return lambda gradient: lr * gradient
    (beta1, beta2), step = group["betas"], float(state.get("step", 0.0)) + 1

    def adam(gradient: Tensor) -> Tensor:
        square = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * gradient**2
        mean = (1 - beta1) / (1 - beta1**step) * gradient
        return lr * mean / ((square / (1 - beta2**step)).sqrt() + group["eps"])

    return adam


def helpful_tasks(affinity: Mapping[str, Mapping[str, float]], target: str) -> list[str]:
    """Auxiliary tasks to train with a target: those whose mean affinity to it is positive, the best first.

    The paper searches groups for the largest sum of affinities over all tasks; for one target and tasks that are free
    to join, that is the tasks with a positive affinity.

    Args:
        affinity: by task that steps, by task whose loss is looked at.
        target: a task.
    """
    gains = {task: row[target] for task, row in affinity.items() if task != target and row.get(target, 0.0) > 0}
    return sorted(gains, key=lambda task: -gains[task])


def affinity_of(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Affinities by pair from metrics `affinity/A/B`."""
    table: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        prefix, _, pair = key.partition("/")
        if prefix == "affinity":
            first, _, second = pair.partition("/")
            table.setdefault(first, {})[second] = value
    return table
