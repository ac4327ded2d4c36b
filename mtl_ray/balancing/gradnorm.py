"""Gradient normalization: weights by which the tasks' gradient norms follow their training rates."""

import torch
from torch import Tensor, nn

from mtl_ray.balancing.base import WeightedTasks
from mtl_ray.balancing.gramian import GradientBalancer
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config.balancing import GradNormBalancingConfig


class GradNormBalancer(GradientBalancer):
    """Gradient normalization (Chen et al. 2018): weighted gradient norms follow the tasks' training rates.

    w moves by Adam along the gradient of sum_t |n_t - mean(n) r_t ** alpha|, with n_t = w_t |grad L_t|, the goal held
    fixed, and r_t the ratio L_t / L_t(first step) over the mean of the ratios; w is then scaled to the sum T. Ours: a
    weight stays positive.
    """

    first: Tensor

    def __init__(self, settings: GradNormBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__(settings, tasks)
        self.alpha = settings.alpha
        self.own = nn.Parameter(torch.ones(len(tasks.names)))
        self.register_buffer("first", torch.full((len(tasks.names),), torch.nan))
        self.optimizer = torch.optim.Adam([self.own], lr=settings.lr)

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        assert self.optimizer is not None
        weights, norms = self.own.detach().clone(), self.gramian(step).diagonal().sqrt()
        if not (norms.isfinite().all() and step.values.isfinite().all()):
            return weights
        self.first = torch.where(self.first.isnan() & step.present, step.values.clamp(min=1e-12), self.first)
        rate = step.values / self.first
        rate = rate / rate[step.present].mean()
        goal = (weights * norms)[step.present].mean() * rate**self.alpha
        self.own.grad = torch.where(step.present, torch.sign(weights * norms - goal) * norms, 0.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.own.clamp_(min=1e-6).mul_(len(weights) / self.own.sum())
        return weights
