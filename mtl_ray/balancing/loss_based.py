"""Weightings that read loss values only: fixed, random and learned scalarizations."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchjd.scalarization import DWA, FAMO, IMTLL, STCH, UW, GeometricMean, Random, Scalarizer

from mtl_ray.balancing.base import Balancer, WeightedTasks
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config.balancing import (
    DTPBalancingConfig,
    DWABalancingConfig,
    FAMOBalancingConfig,
    GeometricMeanBalancingConfig,
    IMTLLBalancingConfig,
    RLWBalancingConfig,
    SmoothTchebycheffBalancingConfig,
    UncertaintyBalancingConfig,
)

TINY = 1e-12
"""Lower bound of a loss of which a logarithm or a ratio is taken."""


class PlainScalarization(Balancer):
    """A scalarization without parameters, over the tasks that have a label in the batch."""

    def __init__(self, scalarizer: Scalarizer) -> None:
        super().__init__()
        self.scalarizer = scalarizer

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        weights = torch.zeros_like(step.values)
        weights[step.present] = derivative(self.scalarizer, step.values[step.present].clamp(min=TINY))
        return weights


def geometric_mean(settings: GeometricMeanBalancingConfig, tasks: WeightedTasks) -> PlainScalarization:
    """Build (prod_t L_t) ** (1 / T) (GLS, Chennupati et al. 2019, MultiNet++)."""
    return PlainScalarization(GeometricMean())


def smooth_tchebycheff(settings: SmoothTchebycheffBalancingConfig, tasks: WeightedTasks) -> PlainScalarization:
    """Build mu log sum_t exp(L_t / (T mu)) with the ideal point 0 (STCH, Lin et al. 2024)."""
    return PlainScalarization(STCH(settings.mu))


def rlw(settings: RLWBalancingConfig, tasks: WeightedTasks) -> PlainScalarization:
    """Build softmax(N(0, I)) . L, drawn in each step (RLW, Lin et al. 2022)."""
    return PlainScalarization(Random())


class LearnedScalarization(Balancer):
    """A scalarization with one parameter per task, learned beside the model by an optimizer of its own.

    It is a sum over tasks, so that leaving out a task without a label leaves the others as they are.
    """

    def __init__(self, scalarizer: UW | IMTLL, lr: float) -> None:
        super().__init__()
        self.scalarizer = scalarizer
        (self.own,) = scalarizer.parameters()
        self.optimizer = torch.optim.Adam([self.own], lr=lr)

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        assert self.optimizer is not None
        weights = derivative(self.scalarizer, step.values, [self.own])
        if step.values.isfinite().all():  # else the model will skip this step, too
            assert self.own.grad is not None
            self.own.grad[~step.present] = 0
            self.optimizer.step()
        self.optimizer.zero_grad()
        return weights


def uncertainty(settings: UncertaintyBalancingConfig, tasks: WeightedTasks) -> LearnedScalarization:
    """Build sum_t 1/2 exp(-s_t) L_t + 1/2 s_t (UW, Kendall et al. 2018), s_t = 0 at the start."""
    return LearnedScalarization(UW(len(tasks.names)), settings.lr or tasks.lr)


def imtl_l(settings: IMTLLBalancingConfig, tasks: WeightedTasks) -> LearnedScalarization:
    """Build sum_t exp(s_t) L_t - s_t (IMTL-L, Liu et al. 2021), s_t = 0 at the start."""
    return LearnedScalarization(IMTLL(len(tasks.names)), settings.lr or tasks.lr)


class FAMOBalancer(Balancer):
    """Fast adaptive multi-task optimization (Liu et al. 2023): losses fall at equal relative rates.

    w_t = c z_t / L_t with z = softmax(xi) and c = 1 / sum_t (z_t / L_t). After the step, xi moves by Adam along the
    gradient of z . (log L(before) - log L(after)); the second comes from another pass over the same rows, without
    gradient. Ours: the rows may be a sample of the batch, drawn anew in each epoch. A task without a label among them
    takes no part.
    """

    def __init__(self, settings: FAMOBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.scalarizer = FAMO(len(tasks.names))
        (self.own,) = self.scalarizer.parameters()
        self.optimizer = torch.optim.Adam([self.own], lr=settings.lr, weight_decay=settings.gamma)
        self.sample = settings.sample

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        values = torch.where(step.present, step.values.clamp(min=TINY), torch.inf)
        return derivative(self.scalarizer, values)  # 1 / inf: absent from c, too

    def after(self, before: TaskLosses, after: TaskLosses) -> None:  # noqa: D102
        assert self.optimizer is not None
        present = before.present
        change = (before.values.clamp(min=TINY).log() - after.values.clamp(min=TINY).log())[present]
        if present.any() and change.isfinite().all():
            with torch.enable_grad():
                (torch.softmax(self.own[present], 0) @ change).backward(inputs=[self.own])
            self.optimizer.step()
        self.optimizer.zero_grad()


class DWABalancer(Balancer):
    """Dynamic weight average (Liu et al. 2019): w = T softmax(L(e-1) / L(e-2) / temperature), 1 in two epochs at first.

    L(e) are mean losses over all labelled rows of epoch e. The mean of the batches' means would differ, since batches
    hold unequal numbers of labels.
    """

    means: Tensor

    def __init__(self, settings: DWABalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.temperature = settings.temperature
        self.register_buffer("means", torch.full((2, len(tasks.names)), torch.nan))

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        scalarizer = DWA(self.temperature)
        for means in self.means:
            if means.isfinite().all():
                scalarizer(means)
                scalarizer.step()
        return derivative(scalarizer, step.values)

    def end_epoch(self, means: Tensor) -> None:  # noqa: D102
        newest = self.means[1].nan_to_num(1.0)
        means = torch.where(means.isfinite(), means.to(newest).clamp(min=TINY), newest)  # no label: as before
        self.means = torch.stack([self.means[1], means])


class DTPBalancer(Balancer):
    """Dynamic task prioritisation (Guo et al. 2018): w_t = -(1 - k_t) ** gamma log k_t, the harder task first.

    k_t is the running average, k_t <- alpha k + (1 - alpha) k_t, of a performance k between 0 and 1. Ours is
    k = exp(-L_t), which for a task with classes is the geometric mean of the probability of the right one. The paper
    takes accuracies, which not every batch has.
    """

    performance: Tensor

    def __init__(self, settings: DTPBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.alpha, self.gamma = settings.alpha, settings.gamma
        self.register_buffer("performance", torch.full((len(tasks.names),), torch.nan))

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        newest = torch.exp(-step.values)
        old = torch.where(self.performance.isnan(), newest, self.performance)
        self.performance = torch.where(step.present & newest.isfinite(), old.lerp(newest, self.alpha), self.performance)
        k = self.performance.clamp(TINY, 1.0)
        return -((1 - k) ** self.gamma) * k.log()


def derivative(scalarizer: Scalarizer, values: Tensor, own: Iterable[nn.Parameter] = ()) -> Tensor:
    """Return the (T,) ds/dL_t of a scalarization at `values`; its own parameters get their gradient, too."""
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        scalarizer(values).backward(inputs=[values, *own])
    assert values.grad is not None
    return values.grad
