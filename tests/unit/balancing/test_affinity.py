"""Steps on the side: what leaving a task out of a step does to the losses, and that no trace of it is left."""

import pytest
import torch

from mtl_ray.balancing.affinity import leave_one_out
from mtl_ray.balancing.task_losses import TaskLosses


class Quadratic:
    """L_t = 1 + |theta - goal_t|^2 / 2 of two numbers theta, which are the shared parameters."""

    def __init__(self, *goals: tuple[float, float]) -> None:
        self.goals = torch.tensor(goals, dtype=torch.float64)
        self.theta = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.present = torch.ones(len(goals), dtype=torch.bool)

    def losses(self) -> TaskLosses:
        shared = self.theta * 1
        values = 1 + ((shared - self.goals) ** 2).sum(1) / 2
        return TaskLosses(values.unbind(), values.detach(), self.present, shared)

    def gains(self, optimizer: torch.optim.Optimizer, weights: list[float]) -> torch.Tensor:
        of_step = torch.tensor(weights, dtype=torch.float64)
        return leave_one_out(self.losses, self.losses, optimizer, lambda _: of_step, [1, 2])


def test_it_is_the_difference_that_a_task_makes_to_the_whole_step():
    problem = Quadratic((1, 0), (-2, 0), (0, 3))
    gains = problem.gains(torch.optim.SGD([problem.theta], lr=0.1), [1.0, 0.5, 0.5])

    def loss(x: float, y: float) -> float:
        return 1 + ((x - 1) ** 2 + y**2) / 2

    together = loss(0.1 - 0.1, 0.15)
    assert gains[1, 0].item() == pytest.approx(1 - together / loss(0.1, 0.15))
    assert gains[2, 0].item() == pytest.approx(1 - together / loss(0.0, 0.0))
    assert gains[1, 0] < 0 < gains[1, 1]
    assert gains[0].isnan().all()


def test_momentum_makes_a_gradient_count_in_full():
    plain, heavy = (Quadratic((1, 0), (-2, 0), (0, 3)) for _ in range(2))
    expected = plain.gains(torch.optim.SGD([plain.theta], lr=0.2), [1.0, 0.5, 0.5])
    found = heavy.gains(torch.optim.SGD([heavy.theta], lr=0.1, momentum=0.5), [1.0, 0.5, 0.5])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_adam_divides_by_its_mean_square_of_all_tasks():
    problem = Quadratic((1, 0), (-2, 0), (0, 3))
    gains = problem.gains(torch.optim.Adam([problem.theta], lr=0.1, eps=0.0), [1.0, 0.25, 0.5])
    step = {"x": 0.1 * 1.0, "y": 0.1 * 1.0}  # of the gradients (-0.5, -1.5), each divided by its own size
    without = 1 + ((0.2 - 1) ** 2 + 0.1**2) / 2  # (-1, -1.5), divided by the same
    assert gains[1, 0].item() == pytest.approx(1 - (1 + ((step["x"] - 1) ** 2 + step["y"] ** 2) / 2) / without)


def test_parameters_and_optimizer_are_left_as_they_were():
    problem = Quadratic((1, 0), (-2, 0), (0, 3))
    optimizer = torch.optim.Adam([problem.theta], lr=0.1)
    problem.gains(optimizer, [1.0, 1.0, 1.0])
    assert problem.theta.tolist() == [0, 0]
    assert problem.theta.grad is None
    assert not optimizer.state


def test_a_task_without_label_has_no_effect_to_measure():
    problem = Quadratic((1, 0), (-2, 0), (0, 3))
    problem.present = torch.tensor([True, False, True])
    gains = problem.gains(torch.optim.SGD([problem.theta], lr=0.1), [1.0, 0.5, 0.5])
    assert gains[1].isnan().all()
    assert gains[:, 1].isnan().all()
    assert gains[2, 0].isfinite()
