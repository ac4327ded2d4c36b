"""Weights from the tasks' gradients: from their inner products, summed over workers."""

from typing import Literal

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torchjd.aggregation import GradVacWeighting, Weighting
from torchjd.linalg import DualConeProjector, PSDMatrix

from mtl_ray.balancing.base import Balancer
from mtl_ray.balancing.task_losses import TaskLosses

Space = Literal["representation", "parameters"]


class GradientBalancer(Balancer):
    """The base of methods that need the Gramian G of the tasks' gradients, G_st = grad L_s . grad L_t.

    The gradients are those on the shared representation (as in MGDA-UB, Sener and Koltun 2018), or on all parameters
    below it. The weights then act on the whole loss, towers included, in one ordinary backward pass.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def gramian(self, step: TaskLosses) -> Tensor:
        """(T, T) float64 inner products of the tasks' gradients, of the global batch."""
        return step.gramian if self.space == "representation" else step.parameter_gramian


class GramianBalancer(GradientBalancer):
    """w = weighting(G) by TorchJD, of the tasks that have a label in the batch.

    G is divided by its mean diagonal: gradients on the representation shrink with the number of rows, and TorchJD takes
    small ones for none. The direction of the step is the same; its length is where the paper's method is not invariant
    to the scale of the gradients (FairGrad).

    - PCGrad (Yu et al. 2020): each gradient is projected off those that it conflicts with, in random order;
    - MGDA (Sener and Koltun 2018): min w'Gw over the simplex;
    - CAGrad (Liu et al. 2021): the best worst task within c |g_0| of the mean gradient g_0;
    - IMTL-G (Liu et al. 2021): equal projections on all gradients;
    - Aligned-MTL (Senushkin et al. 2023): equal singular values of the gradient matrix;
    - FairGrad (Ban and Ji 2024): G w = w ** (-1 / alpha);
    - UPGrad (Quinton and Rey 2024): the mean of all gradients, each projected on the dual cone of all.
    """

    def __init__(self, space: Space, weighting: Weighting) -> None:
        super().__init__(space)
        self.weighting = weighting

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        gramian, present = scaled(self.gramian(step), step.present), step.present
        weights = torch.ones_like(step.values)
        if gramian.isfinite().all():  # an overflow in float16: the model will skip this step
            weights[present] = self.weighting(gramian[present][:, present])
        return weights


class GradVacBalancer(GradientBalancer):
    """Gradient vaccine (Wang et al. 2021): gradients are tilted until their cosines reach their running averages.

    The averages of a task without a label in the batch stay as they are.
    """

    def __init__(self, space: Space, num_tasks: int, beta: float) -> None:
        super().__init__(space)
        self.weighting = GradVacWeighting(beta=beta)
        self.weighting(torch.eye(num_tasks, dtype=torch.float64))  # makes its state, zeros, for the checkpoint

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


class GradNormBalancer(GradientBalancer):
    """Gradient normalization (Chen et al. 2018): weighted gradient norms follow the tasks' training rates.

    w moves by Adam along the gradient of sum_t |n_t - mean(n) r_t ** alpha|, with n_t = w_t |grad L_t|, the goal held
    fixed, and r_t the ratio L_t / L_t(first step) over the mean of the ratios; w is then scaled to the sum T. Ours: a
    weight stays positive.
    """

    first: Tensor

    def __init__(self, space: Space, num_tasks: int, alpha: float, lr: float) -> None:
        super().__init__(space)
        self.alpha = alpha
        self.own = nn.Parameter(torch.ones(num_tasks))
        self.register_buffer("first", torch.full((num_tasks,), torch.nan))
        self.optimizer = torch.optim.Adam([self.own], lr=lr)

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


class NashMTLBalancer(GradientBalancer):
    """Nash bargaining (Navon et al. 2022): w solves G w = 1 / w, for G divided by its norm.

    w is then scaled down to |sum_t w_t grad L_t| <= max_norm, and kept for `update_weights_every` steps. Ours: the
    equation, the stationarity of the convex 1/2 w'Gw - sum_t log w_t, is solved by Newton's method; the paper solves a
    series of linearized problems with ECOS, and stops earlier.
    """

    solution: Tensor
    age: Tensor

    def __init__(self, space: Space, num_tasks: int, update_weights_every: int, max_norm: float) -> None:
        super().__init__(space)
        self.every, self.max_norm = update_weights_every, max_norm
        self.register_buffer("solution", torch.ones(num_tasks))
        self.register_buffer("age", torch.zeros(()))

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        if self.age % self.every and not self.max_norm:
            self.age += 1
            return self.solution.clone()
        gramian, present = self.gramian(step), step.present
        part = gramian[present][:, present]
        if self.age % self.every == 0 and part.isfinite().all() and part.diagonal().sum() > 0:
            self.solution[present] = bargain(part / part.norm())
        self.age += 1
        norm = (self.solution[present] @ part @ self.solution[present]).clamp(min=0).sqrt()
        if self.max_norm and norm > self.max_norm:
            return self.solution * self.max_norm / norm
        return self.solution.clone()


def bargain(gramian: Tensor, num_steps: int = 50) -> Tensor:
    """(T,) positive w with G w = 1 / w: the minimum of the convex 1/2 w'Gw - sum_t log w_t, by damped Newton."""
    gramian = gramian + 1e-8 * torch.eye(len(gramian)).to(gramian)  # a task at its optimum has no gradient
    w = gramian.diagonal().rsqrt()
    for _ in range(num_steps):
        gradient = gramian @ w - 1 / w
        move = torch.linalg.solve(gramian + torch.diag(w**-2), gradient)
        decrement = (gradient @ move).clamp(min=0).sqrt()
        w = w - move / (1 + decrement)  # the function is self-concordant: this step stays inside and always descends
        if decrement < 1e-14:
            break
    return w


class NonNegativeProjector(DualConeProjector):
    """min v'Gv with v >= u, TorchJD's projection on the dual cone, as non-negative least squares: v = u + s, s >= 0.

    G is scaled and regularized as in TorchJD's own projector, which needs quadprog (GPL).
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803 - names of the base class
        """(..., T) vectors u and (T, T) Gramian to (..., T) weights."""
        matrix = (G / G.diagonal().sum()).double().cpu().numpy() + 1e-4 * np.eye(len(G))
        root = np.linalg.cholesky(matrix).T
        rows = [u + nnls(root, -root @ u)[0] for u in U.double().cpu().numpy().reshape(-1, len(G))]
        return torch.as_tensor(np.stack(rows)).to(U).reshape(U.shape)


def scaled(gramian: Tensor, present: Tensor) -> Tensor:
    """The Gramian divided by the mean of the diagonal over the present tasks."""
    return gramian / gramian.diagonal()[present].mean().clamp(min=torch.finfo(gramian.dtype).tiny)
