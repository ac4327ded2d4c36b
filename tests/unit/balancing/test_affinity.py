"""How far a task turns a step towards lower losses of another, worked out by hand on quadratic losses."""

from math import sqrt

import pytest
import torch

from mtl_ray.balancing.affinity import turns
from mtl_ray.balancing.task_losses import TaskLosses


class Quadratic:
    """L_t = 1 + |theta - goal_t|^2 / 2 of two numbers theta = 0, the shared parameters, with the gradients -goal_t."""

    def __init__(self, *goals: tuple[float, float]) -> None:
        self.goals = torch.tensor(goals, dtype=torch.float64)
        self.theta = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.present = torch.ones(len(goals), dtype=torch.bool)

    def losses(self) -> TaskLosses:
        shared = self.theta * 1
        values = 1 + ((shared - self.goals) ** 2).sum(1) / 2
        return TaskLosses(values.unbind(), values.detach(), self.present, shared)

    def turns(self, optimizer: torch.optim.Optimizer | None = None, weights: tuple[float, ...] = (1, 1, 1)):
        of_step = torch.tensor(weights, dtype=torch.float64)
        optimizer = optimizer or torch.optim.SGD([self.theta], lr=0.1)
        return turns(self.losses, self.losses, optimizer, lambda _: of_step, target=0)


def test_it_is_the_difference_of_two_cosines():
    found = Quadratic((1, 0), (-0.5, 0), (0, 1)).turns()[:, 0]
    together, without_first, without_second = 0.5 / sqrt(0.25 + 1), 1 / sqrt(2), 1.0
    assert found[1].item() == pytest.approx(together - without_first)
    assert found[2].item() == pytest.approx(together - without_second)


def test_a_task_that_takes_up_the_step_harms_though_it_works_against_nobody():
    found = Quadratic((1, 0), (0, 3), (0.5, 0)).turns()[:, 0]
    assert found[1] < 0 < found[2]


def test_weights_count():
    light, heavy = (Quadratic((1, 0), (0, 1), (0, 0)).turns(weights=(1, weight, 1))[1, 0] for weight in (0.1, 1.0))
    assert light.item() == pytest.approx(1 / sqrt(1.01) - 1)
    assert heavy.item() == pytest.approx(1 / sqrt(2) - 1)


def test_only_the_tasks_beside_the_target_are_measured():
    found = Quadratic((1, 0), (0, 1), (1, 1)).turns()
    assert found[0].isnan().all()
    assert found[:, 1:].isnan().all()


def test_steps_are_those_of_adam_with_its_mean_square_of_all_tasks():
    """(1, 0) and (0, 3) make a step of equal numbers; without task 1 the first of them is divided by the same."""
    problem = Quadratic((1, 0), (0, 3), (0, 0))
    found = problem.turns(torch.optim.Adam([problem.theta], lr=0.1, eps=0.0))[1, 0]
    assert found.item() == pytest.approx(1 / sqrt(2) - 1)


def test_parameters_and_optimizer_are_left_as_they_were():
    problem = Quadratic((1, 0), (-2, 0), (0, 3))
    optimizer = torch.optim.Adam([problem.theta], lr=0.1)
    problem.turns(optimizer)
    assert problem.theta.tolist() == [0, 0]
    assert problem.theta.grad is None
    assert not optimizer.state


@pytest.mark.parametrize("absent", [0, 1])
def test_without_labels_there_is_nothing_to_measure(absent: int):
    problem = Quadratic((1, 0), (-2, 0), (0, 3))
    problem.present[absent] = False
    found = problem.turns()
    assert found[1, 0].isnan()
    assert found[2, 0].isnan() == (absent == 0)


def test_a_step_of_nothing_else_has_no_direction():
    assert Quadratic((0, 0), (1, 0), (1, 0)).turns()[:, 0].isnan().all()  # no gradient of the target
    found = Quadratic((1, 0), (1, 0), (0, 0)).turns(weights=(0, 1, 0))[:, 0]
    assert found[1].isnan()  # nothing is left without task 1
