"""Weightings that correct the gradient of the shared parameters, instead of combining the tasks' gradients."""

from typing import Any

import torch
from torch import Tensor

from mtl_ray.balancing.base import Balancer, WeightedTasks
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config.balancing import DBMTLBalancingConfig, GradDropBalancingConfig
from mtl_ray.distributed import sum_over_ranks, world_size


class GradDropBalancer(Balancer):
    """Gradient sign dropout (Chen et al. 2020), on the shared representation.

    For feature k, S_tk = sum over the rows of the batch of sign(z_k) dL_t/dz_k has one sign per task. With
    P_k = 1/2 (1 + sum_t S_tk / sum_t |S_tk|) and one uniform draw U_k, the gradients of the tasks with S_tk > 0 pass if
    P_k > U_k, those with S_tk < 0 if P_k < U_k; the share `leak` of the others passes, too. S is summed over workers,
    which also share the draw, so every row's gradient is masked as in one process. Towers get the whole gradient.
    """

    def __init__(self, settings: GradDropBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.leak = settings.leak

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        return torch.ones_like(step.values)

    def correction(self, step: TaskLosses) -> Tensor:  # noqa: D102
        z, gradients = step.representation, step.representation_gradients
        signs = step.as_task_representations(z.detach().sign().to(gradients.dtype))
        sums = sum_over_ranks((gradients * signs).sum(1).double())
        positive = 0.5 * (1 + sums.sum(0) / sums.abs().sum(0).clamp(min=1e-300))
        draw = torch.rand(len(positive), dtype=torch.float64).to(positive)
        passes = (positive > draw) & (sums > 0) | (positive < draw) & (sums < 0)
        dropped = (1 - self.leak) * (~passes).to(gradients)
        # The gradient of <c, z> on z is c: it takes away what is dropped from the sum of the tasks' gradients.
        taken = step.on_representation(gradients * dropped[:, None])
        return -(z.flatten().to(taken.dtype) @ taken)


class DBMTLBalancer(Balancer):
    """Dual balancing (Lin et al. 2023): gradients of log L_t, averaged over steps and scaled to the largest norm.

    g_t <- b_k g_t + (1 - b_k) grad log L_t with b_k = beta / k ** beta_sigma at step k; the shared parameters get
    sum_t g_t max_s |g_s| / |g_t|, towers the gradient of sum_t log L_t. Each task's running average has the size of the
    parameters below the representation and is in the checkpoint. A task without a label keeps its average.
    """

    num_steps: Tensor

    def __init__(self, settings: DBMTLBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.beta, self.beta_sigma = settings.beta, settings.beta_sigma
        self.average: Tensor | None = None
        self.register_buffer("num_steps", torch.zeros(()))

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        return 1 / step.values.clamp(min=1e-8)

    def correction(self, step: TaskLosses) -> Tensor:  # noqa: D102
        weights = torch.where(step.present, self.weights(step), 0.0)
        newest = step.parameter_gradients * weights[:, None].to(step.parameter_gradients)
        old = torch.zeros_like(newest) if self.average is None else self.average.to(newest)
        if newest.isfinite().all():  # else an overflow in float16: the model will skip this step
            self.num_steps += 1
            forget = float(self.beta / self.num_steps**self.beta_sigma)
            old = torch.where(step.present[:, None], newest + forget * (old - newest), old)
        self.average = old
        norms = old.norm(dim=1)
        combined = (norms.max() / norms.clamp(min=1e-8)) @ old
        return sum_of_products(combined - newest.sum(0), step.shared_parameters)

    def get_extra_state(self) -> dict[str, Any]:  # noqa: D102
        return {"average": self.average}

    def set_extra_state(self, state: dict[str, Any]) -> None:  # noqa: D102
        self.average = state["average"]


def sum_of_products(gradient: Tensor, parameters: list[Tensor]) -> Tensor:
    """Return a scalar whose gradient on the parameters, summed over workers, is the (P,) `gradient`."""
    parts = gradient.split([p.numel() for p in parameters])
    products = [(part.view_as(p) * p).sum() for part, p in zip(parts, parameters, strict=True)]
    return torch.stack(products).sum() / world_size()
