"""Losses with known values and gradients: what the tests of task weightings share."""

import copy

import torch

from mtl_ray.balancing import Balancer, TaskLosses, build_balancer
from mtl_ray.config import override
from tests.support import balancings, small_experiment

NUM_TASKS, ROWS, WIDTH = 6, 5, 4
TASKS = list(small_experiment().tasks)
KINDS = balancings()


def balancer_of(kind: str, **settings) -> Balancer:
    changes = {"balancing": KINDS[kind] | settings, "training.optimizer.lr": 0.1}
    return build_balancer(override(small_experiment(), changes))


class Problem:
    """Losses that are linear in a representation: `jacobian` is their gradient, `values` their value."""

    def __init__(self, seed: int = 0, present: tuple[bool, ...] = (True,) * NUM_TASKS) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.jacobian = torch.randn(NUM_TASKS, ROWS * WIDTH, generator=generator).double()
        self.values = torch.rand(NUM_TASKS, generator=generator).double() + 0.2
        self.present = torch.tensor(present)
        self.jacobian[~self.present], self.values[~self.present] = 0, 0
        self.leaf = torch.randn(ROWS, WIDTH, generator=generator).double().requires_grad_()

    def scaled(self, factor: float | torch.Tensor) -> "Problem":
        """The same with other values of the losses."""
        other = copy.copy(self)
        other.values = self.values * factor
        return other

    def losses(self) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.leaf * 1
        return self.values + self.jacobian @ (z - self.leaf.detach()).flatten(), z

    def step(self, epoch: int = 0) -> TaskLosses:
        losses, z = self.losses()
        return TaskLosses(losses, losses.detach(), self.present, z, epoch=epoch)

    def gradient(self, balancer: Balancer) -> torch.Tensor:
        """(numel,) what the representation receives."""
        torch.manual_seed(7)
        self.leaf.grad = None
        balancer(self.step())[0].backward()
        assert self.leaf.grad is not None
        return self.leaf.grad.flatten()

    def plain_gradient(self, scalarizer) -> torch.Tensor:
        torch.manual_seed(7)
        self.leaf.grad = None
        scalarizer(self.losses()[0]).backward()
        assert self.leaf.grad is not None
        return self.leaf.grad.flatten()


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
