"""Weightings that read the inner products of the tasks' gradients, summed over workers."""

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torchjd.aggregation import (
    AlignedMTLWeighting,
    CAGradWeighting,
    FairGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    MGDAWeighting,
    PCGradWeighting,
    UPGradWeighting,
    Weighting,
)
from torchjd.linalg import DualConeProjector, PSDMatrix

from mtl_ray.balancing.base import Balancer, WeightedTasks
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config import balancing as config
from mtl_ray.config.balancing_base import GradientBalancingConfig


class GradientBalancer(Balancer):
    """The base of methods that need the Gramian G of the tasks' gradients, G_st = grad L_s . grad L_t.

    The gradients are those on the shared representation (as in MGDA-UB, Sener and Koltun 2018), or on all parameters
    below it. The weights then act on the whole loss, towers included, in one ordinary backward pass.
    """

    def __init__(self, settings: GradientBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.space = settings.space

    def gramian(self, step: TaskLosses) -> Tensor:
        """Return the (T, T) float64 inner products of the tasks' gradients over the global batch."""
        return step.gramian if self.space == "representation" else step.parameter_gramian


class GramianBalancer(GradientBalancer):
    """The weights w = weighting(G) of TorchJD, over the tasks that have a label in the batch.

    G is divided by its mean diagonal: gradients on the representation shrink with the number of rows, and TorchJD takes
    small ones for zero. The direction of the step stays the same. Its length differs where the paper's method is not
    invariant to the scale of the gradients (FairGrad).
    """

    def __init__(self, settings: GradientBalancingConfig, tasks: WeightedTasks, weighting: Weighting) -> None:
        super().__init__(settings, tasks)
        self.weighting = weighting

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        gramian, present = scaled(self.gramian(step), step.present), step.present
        weights = torch.ones_like(step.values)
        if gramian.isfinite().all():  # an overflow in float16: the model will skip this step
            weights[present] = self.weighting(gramian[present][:, present])
        return weights


def pcgrad(settings: config.PCGradBalancingConfig, tasks: WeightedTasks) -> GramianBalancer:
    """Build PCGrad (Yu et al. 2020): each gradient is projected off those it conflicts with, in random order."""
    return GramianBalancer(settings, tasks, PCGradWeighting())


def mgda(settings: config.MGDABalancingConfig, tasks: WeightedTasks) -> GramianBalancer:
    """Build MGDA (Sener and Koltun 2018): min w'Gw over the simplex."""
    return GramianBalancer(settings, tasks, MGDAWeighting(settings.epsilon, settings.max_iters))


def cagrad(settings: config.CAGradBalancingConfig, tasks: WeightedTasks) -> GramianBalancer:
    """Build CAGrad (Liu et al. 2021): the best worst task within c |g_0| of the mean gradient g_0."""
    return GramianBalancer(settings, tasks, CAGradWeighting(settings.c))


def imtl_g(settings: config.IMTLGBalancingConfig, tasks: WeightedTasks) -> GramianBalancer:
    """Build IMTL-G (Liu et al. 2021): equal projections on all gradients."""
    return GramianBalancer(settings, tasks, IMTLGWeighting())


def aligned_mtl(settings: config.AlignedMTLBalancingConfig, tasks: WeightedTasks) -> GramianBalancer:
    """Build Aligned-MTL (Senushkin et al. 2023): equal singular values of the gradient matrix."""
    return GramianBalancer(settings, tasks, AlignedMTLWeighting(scale_mode=settings.scale_mode))


def fairgrad(settings: config.FairGradBalancingConfig, tasks: WeightedTasks) -> GramianBalancer:
    """Build FairGrad (Ban and Ji 2024): G w = w ** (-1 / alpha)."""
    return GramianBalancer(settings, tasks, FairGradWeighting(settings.alpha))


def upgrad(settings: config.UPGradBalancingConfig, tasks: WeightedTasks) -> GramianBalancer:
    """Build UPGrad (Quinton and Rey 2024): the mean of all gradients, each projected on the dual cone of all."""
    return GramianBalancer(settings, tasks, UPGradWeighting(projector=NonNegativeProjector()))


class GradVacBalancer(GradientBalancer):
    """Gradient vaccine (Wang et al. 2021): gradients are tilted until their cosines reach their running averages.

    The averages of a task without a label in the batch stay as they are.
    """

    def __init__(self, settings: config.GradVacBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__(settings, tasks)
        self.weighting = GradVacWeighting(beta=settings.beta)
        self.weighting(torch.eye(len(tasks.names), dtype=torch.float64))  # makes its state, zeros, for the checkpoint

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        gramian, present = scaled(self.gramian(step), step.present), step.present
        if not gramian.isfinite().all():
            return torch.ones_like(step.values)
        (average,) = self.weighting.buffers()
        old, both = average.clone(), (present[:, None] & present).to(average.device)
        # A gradient of 0 has no cosine: in its place one that is orthogonal to all others, which are left as they are.
        weights = self.weighting(gramian + torch.diag((~present).to(gramian)))
        (average,) = self.weighting.buffers()
        average.copy_(torch.where(both, average, old))
        return weights


class NonNegativeProjector(DualConeProjector):
    """TorchJD's projection on the dual cone, min v'Gv with v >= u, as non-negative least squares: v = u + s, s >= 0.

    G is scaled and regularized as in TorchJD's own projector, which needs quadprog (GPL).
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803 - names of the base class
        """Return (..., T) weights from (..., T) vectors u and the (T, T) Gramian."""
        matrix = (G / G.diagonal().sum()).double().cpu().numpy() + 1e-4 * np.eye(len(G))
        root = np.linalg.cholesky(matrix).T
        rows = [u + nnls(root, -root @ u)[0] for u in U.double().cpu().numpy().reshape(-1, len(G))]
        return torch.as_tensor(np.stack(rows)).to(U).reshape(U.shape)


def scaled(gramian: Tensor, present: Tensor) -> Tensor:
    """Return the Gramian divided by the mean of its diagonal over the present tasks."""
    return gramian / gramian.diagonal()[present].mean().clamp(min=torch.finfo(gramian.dtype).tiny)
