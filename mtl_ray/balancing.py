"""Task weighting: T losses of the whole global batch to one scalar."""

import torch
from torch import Tensor, nn
from torchjd.scalarization import Constant

from mtl_ray.experiment import Experiment


class StaticBalancer(nn.Module):
    """L = sum_t w_t L_t with constant weights (torchjd.scalarization.Constant)."""

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, losses: Tensor) -> Tensor:
        """(T,) losses to a scalar."""
        return Constant(self.weights)(losses)


def build_balancer(experiment: Experiment) -> StaticBalancer:
    """The balancer that the experiment names."""
    return StaticBalancer(torch.tensor(list(experiment.weights().values()), dtype=torch.float64))


def global_value(local: Tensor, total: Tensor) -> Tensor:
    """A tensor with the value of `total`, which all ranks share, and the gradient of `local`, this rank's part.

    A balancer that sees these values decides the same on every rank.
    """
    # In this order the difference is exactly 0, so that no rank rounds `total` with its own `local`.
    return total + (local - local.detach())
