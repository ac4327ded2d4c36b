"""Weightings for target tasks and auxiliary tasks that are there to help them."""

import torch
from torch import Tensor

from mtl_ray.balancing.base import Balancer, WeightedTasks
from mtl_ray.balancing.gramian import GradientBalancer
from mtl_ray.balancing.task_losses import TaskLosses, cosines
from mtl_ray.config.auxiliary_balancing import BanditBalancingConfig, GradientToTargetBalancingConfig


class GradientToTargetBalancer(GradientBalancer):
    """Gradient-similarity gating (Du et al. 2018): w_t = a_t max(0, cos(grad L_t, grad L_target)).

    `unweighted` is their other variant, w_t = a_t where the cosine is not negative, otherwise 0. a_t are the declared
    weights, and the target keeps its own. The paper has one auxiliary task and compares gradients on the parameters.
    """

    declared: Tensor

    def __init__(self, settings: GradientToTargetBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__(settings, tasks)
        self.register_buffer("declared", tasks.relative, persistent=False)
        self.target, self.gate = tasks.names.index(settings.target), settings.gate

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        cosine = cosines(self.gramian(step))[self.target]
        gate = cosine.clamp(min=0) if self.gate == "weighted" else (cosine >= 0).to(cosine)
        gate[self.target] = 1
        return self.declared * gate


class BanditBalancer(Balancer):
    """A policy over the tasks, learned from the effect of each on the targets' validation loss.

    Each auxiliary task is a bandit with two arms, in or out, played by exponentiated gradient (Hedge, Freund and
    Schapire 1997). Every `every` steps, the reward of "in" is the lookahead affinity of the task to the targets on
    validation rows: the relative fall of their loss after a step on this task's gradient alone, divided by the largest
    such fall or rise among the tasks. The reward of "out" is 0:

        s_t <- s_t + eta r_t / max_s |r_s|,    p_t = sigmoid(s_t), 1 for a target,    w = sum(a) a p / sum(a p)

    with the declared weights a. All arms are tried on the side, so nothing needs to be explored. |s_t| stays within 6,
    so that a task that is out can come back in.
    """

    declared: Tensor
    scores: Tensor

    def __init__(self, settings: BanditBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.register_buffer("declared", tasks.relative, persistent=False)
        self.register_buffer("scores", torch.zeros(len(tasks.names)))
        self.targets, self.eta = [tasks.names.index(name) for name in settings.targets], settings.eta
        self.probe_every, self.probe_rows = settings.every, settings.rows

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
