"""Weights for the case in which some tasks are what matters and the others are there to help them."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mtl_ray.balancing.base import Balancer
from mtl_ray.balancing.gramian import GradientBalancer, Space
from mtl_ray.balancing.task_losses import TaskLosses, cosines


class GradientToTargetBalancer(GradientBalancer):
    """Gradient-similarity gating (Du et al. 2018): w_t = a_t max(0, cos(grad L_t, grad L_target)).

    `unweighted` is their other variant, w_t = a_t where the cosine is not negative, otherwise 0. a_t are the declared
    weights; the target's own is w = a. The paper has one auxiliary task and compares gradients on the parameters.
    """

    declared: Tensor

    def __init__(self, space: Space, declared: Tensor, target: int, gate: Literal["weighted", "unweighted"]) -> None:
        super().__init__(space)
        self.register_buffer("declared", declared, persistent=False)
        self.target, self.gate = target, gate

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        cosine = cosines(self.gramian(step))[self.target]
        gate = cosine.clamp(min=0) if self.gate == "weighted" else (cosine >= 0).to(cosine)
        gate[self.target] = 1
        return self.declared * gate


class BanditBalancer(Balancer):
    """A policy over the tasks, learned from what each of them does to the targets on validation rows.

    Each auxiliary task is a bandit with two arms, in or out, played by exponentiated gradient (Hedge, Freund and
    Schapire 1997). Every `every` steps the reward of "in" is the lookahead affinity of the task to the targets on
    validation rows, that is the relative fall of their loss after a step on this task's gradient alone, divided by the
    largest such fall or rise among the tasks; that of "out" is 0:

        s_t <- s_t + eta r_t / max_s |r_s|,    p_t = sigmoid(s_t), 1 for a target,    w = sum(a) a p / sum(a p)

    with the declared weights a. All arms are tried on the side, so nothing needs to be explored. |s_t| stays within 6:
    a task that is out can come back in.
    """

    declared: Tensor
    scores: Tensor

    def __init__(self, declared: Tensor, targets: Sequence[int], every: int, eta: float, rows: int) -> None:
        super().__init__()
        self.register_buffer("declared", declared, persistent=False)
        self.register_buffer("scores", torch.zeros(len(declared)))
        self.targets, self.eta = list(targets), eta
        self.probe_every, self.probe_rows = every, rows

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        policy = torch.sigmoid(self.scores)
        policy[self.targets] = 1
        weights = self.declared * policy
        return weights * self.declared.sum() / weights.sum()

    def reward(self, affinity: Tensor) -> None:  # noqa: D102
        rewards = affinity[:, self.targets].nanmean(1)
        largest = rewards.abs().nan_to_num(0.0).max()
        if largest > 0:
            self.scores = (self.scores + (self.eta * rewards / largest).nan_to_num(0.0)).clamp(-6, 6)
