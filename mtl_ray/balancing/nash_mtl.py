"""Nash bargaining between the tasks' gradients."""

import torch
from torch import Tensor

from mtl_ray.balancing.base import WeightedTasks
from mtl_ray.balancing.gramian import GradientBalancer
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config.balancing import NashMTLBalancingConfig


class NashMTLBalancer(GradientBalancer):
    """Nash bargaining (Navon et al. 2022): w solves G w = 1 / w, for G divided by its norm.

    w is then scaled down to |sum_t w_t grad L_t| <= max_norm, and kept for `update_weights_every` steps. Ours: the
    equation, the stationarity of the convex 1/2 w'Gw - sum_t log w_t, is solved by Newton's method; the paper solves a
    series of linearized problems with ECOS, and stops earlier.
    """

    solution: Tensor
    age: Tensor

    def __init__(self, settings: NashMTLBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__(settings, tasks)
        self.every, self.max_norm = settings.update_weights_every, settings.max_norm
        self.register_buffer("solution", torch.ones(len(tasks.names)))
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
    """Return the (T,) positive w with G w = 1 / w.

    It is the minimum of the convex 1/2 w'Gw - sum_t log w_t, found by damped Newton steps.
    """
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
