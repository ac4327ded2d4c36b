"""What every task weighting keeps to."""

import io

import pytest
import torch

from mtl_ray.balancing import Balancer, build_balancer
from mtl_ray.config import override
from tests.support import small_experiment
from tests.unit.balancing.problem import KINDS, NUM_TASKS, TASKS, Problem, balancer_of, close


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_label_is_left_out(kind: str):
    balancer = balancer_of(kind)
    for absent in ((2,), (), (0, 2, 5), range(NUM_TASKS)):
        problem = Problem(1, tuple(number not in absent for number in range(NUM_TASKS)))
        loss, weights = balancer(problem.step())
        loss.backward()
        assert problem.leaf.grad is not None
        assert problem.leaf.grad.isfinite().all()
        assert all(weights[number] == 0 for number in absent)
        assert weights.isfinite().all()
        balancer.after(problem.step(), problem.scaled(0.9).step())
        balancer.end_epoch(torch.where(problem.present, problem.values, torch.nan))


@pytest.mark.parametrize("kind", ["geometric_mean", "smooth_tchebycheff", "famo", "gradnorm", "graddrop", "db_mtl"])
def test_a_task_that_never_has_a_label_changes_nothing_for_the_others(kind: str):
    present = (True, True, False, True, True, True)
    names = [name for name, here in zip(TASKS, present, strict=True) if here]
    whole = balancer_of(kind)
    tree = small_experiment().model_dump(mode="json", exclude_unset=True)
    tree["tasks"] = {name: tree["tasks"][name] for name in names}
    alone = build_balancer(override(small_experiment(), {"tasks": tree["tasks"], "balancing": KINDS[kind]}))
    problem, left = Problem(1, present), Problem(1, present)
    left.jacobian, left.values = left.jacobian[problem.present], left.values[problem.present]
    left.present = left.present[problem.present]
    close(problem.gradient(whole), left.gradient(alone))


@pytest.mark.parametrize("kind", KINDS)
def test_state_survives_a_file_without_pickles(kind: str):
    whole, before = balancer_of(kind), balancer_of(kind)

    def advance(balancer: Balancer, seed: int) -> torch.Tensor:
        problem = Problem(seed)
        gradient = problem.gradient(balancer)
        balancer.after(problem.step(), problem.scaled(torch.linspace(0.7, 1.1, NUM_TASKS)).step())
        balancer.end_epoch(problem.values)
        balancer.reward(problem.jacobian[:, :NUM_TASKS])
        return gradient

    for seed in range(3):
        advance(whole, seed), advance(before, seed)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    resumed = balancer_of(kind)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(3, 6):
        assert torch.equal(advance(resumed, seed), advance(whole, seed))


def test_without_a_shared_representation_gradient_methods_say_so():
    step = Problem().step()
    step.shared = None
    with pytest.raises(ValueError, match="this method compares the tasks' gradients on a shared representation"):
        balancer_of("pcgrad")(step)
