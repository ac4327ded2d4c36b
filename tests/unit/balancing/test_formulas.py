"""Weightings that TorchJD has not, or not so, against a slow reference written from the paper's formula."""

import math

import pytest
import torch
from torchjd import aggregation
from torchjd.linalg import QuadprogProjector

from mtl_ray.balancing.gramian import NonNegativeProjector
from mtl_ray.balancing.nash_mtl import bargain
from tests.support import small_experiment
from tests.unit.balancing.problem import NUM_TASKS, ROWS, TASKS, WIDTH, Problem, balancer_of, close


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem:UserWarning")
def test_nash_mtl_solves_its_equation_as_torchjd_does_nearly():
    problem = Problem()
    gramian = problem.jacobian @ problem.jacobian.T
    gramian = gramian / gramian.norm()
    weights = bargain(gramian)
    close(gramian @ weights * weights, torch.ones(NUM_TASKS).double(), 1e-6)
    found = problem.gradient(balancer_of("nash_mtl"))
    assert found.norm().item() == pytest.approx(1)
    plain = aggregation.NashMTL(NUM_TASKS)(problem.jacobian)
    assert torch.cosine_similarity(found, plain, 0) > 0.999


def test_nash_mtl_keeps_its_weights_between_solutions():
    balancer = balancer_of("nash_mtl", update_weights_every=2, max_norm=0)
    first, kept, second = (balancer(Problem(seed).step())[1] for seed in range(3))
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


def test_the_projector_is_that_of_torchjd():
    for seed in range(5):
        jacobian = Problem(seed).jacobian
        gramian, vectors = jacobian @ jacobian.T, torch.eye(NUM_TASKS).double()
        close(NonNegativeProjector()(vectors, gramian), QuadprogProjector()(vectors, gramian), 1e-8)


def test_gradnorm_follows_its_loss():
    balancer = balancer_of("gradnorm")
    weights = torch.ones(NUM_TASKS).double().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.025)
    first = Problem(0).values
    for seed in range(5):
        problem = Problem(seed)
        close(balancer(problem.step())[1], weights.detach())
        norms = weights * problem.jacobian.norm(dim=1)
        rate = problem.values / first
        goal = (norms.mean() * (rate / rate.mean()) ** 1.5).detach()
        (norms - goal).abs().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            weights *= NUM_TASKS / weights.sum()


def test_graddrop_lets_one_sign_of_each_feature_pass():
    problem = Problem()
    found = problem.gradient(balancer_of("graddrop", leak=0.25)).view(ROWS, WIDTH)
    torch.manual_seed(7)
    draw = torch.rand(WIDTH, dtype=torch.float64)
    gradients, z = problem.jacobian.view(NUM_TASKS, ROWS, WIDTH), problem.leaf.detach()
    for feature in range(WIDTH):
        sums = [float((z[:, feature].sign() * g[:, feature]).sum()) for g in gradients]
        positive = 0.5 * (1 + sum(sums) / sum(map(abs, sums)))
        expected = torch.zeros(ROWS).double()
        for gradient, total in zip(gradients, sums, strict=True):
            passes = total > 0 if positive > draw[feature] else total < 0
            expected += gradient[:, feature] * (1 if passes else 0.25)
        close(found[:, feature], expected)


def test_db_mtl_follows_its_formula():
    balancer = balancer_of("db_mtl", beta=0.9, beta_sigma=0.5)
    average = torch.zeros(NUM_TASKS, ROWS * WIDTH).double()
    for k in range(1, 5):
        problem = Problem(k)
        newest = problem.jacobian / problem.values[:, None]
        forget = 0.9 / math.sqrt(k)
        average = forget * average + (1 - forget) * newest
        norms = average.norm(dim=1)
        close(problem.gradient(balancer), (norms.max() / norms) @ average)


def test_dtp_puts_the_harder_task_first():
    balancer = balancer_of("dtp", alpha=0.5, gamma=2.0)
    performance = None
    for seed in range(3):
        problem = Problem(seed)
        newest = torch.exp(-problem.values)
        performance = newest if performance is None else (performance + newest) / 2
        weights = balancer(problem.step())[1]
        close(weights, -((1 - performance) ** 2) * performance.log())
    assert performance is not None
    assert weights.argmax() == performance.argmin()


def test_scheduled_weights_change_at_their_epoch():
    balancer = balancer_of("scheduled", weights={"click": {2: 0.5, 4: 0.1}})
    weights = [balancer(Problem().step(epoch))[1] for epoch in range(6)]
    assert [each.sum().item() for each in weights] == [pytest.approx(1)] * 6
    relative = [(each[TASKS.index("click")] / each[TASKS.index("gender")]).item() for each in weights]
    assert relative == pytest.approx([1, 1, 0.5, 0.5, 0.1, 0.1])


@pytest.mark.parametrize("gate", ["weighted", "unweighted"])
def test_auxiliary_tasks_count_by_their_cosine_with_the_target(gate: str):
    problem = Problem()
    target = TASKS.index("rating")
    weights = balancer_of("gradient_to_target", gate=gate)(problem.step())[1]
    for number, (name, declared) in enumerate(small_experiment().weights().items()):
        cosine = torch.cosine_similarity(problem.jacobian[number], problem.jacobian[target], 0).item()
        expected = max(0.0, cosine) if gate == "weighted" else float(cosine >= 0)
        assert weights[number].item() == pytest.approx(declared * (1 if name == "rating" else expected))


def test_the_bandit_leaves_out_what_harms_its_targets_and_can_take_it_back():
    balancer = balancer_of("bandit", targets=["rating"], eta=1.0)
    rating, click, tags = (TASKS.index(name) for name in ("rating", "click", "tags"))
    affinity = torch.full((NUM_TASKS, NUM_TASKS), torch.nan).double()
    affinity[rating, rating], affinity[click, rating], affinity[tags, rating] = 0.02, 0.01, -0.01
    for _ in range(30):
        balancer.reward(affinity)
    weights = balancer(Problem().step())[1]
    declared = torch.tensor(list(small_experiment().weights().values())).double()
    assert weights.sum().item() == pytest.approx(declared.sum().item())
    share = weights / declared
    assert share[tags] < 0.01 * share[rating]
    assert share[click] > 0.99 * share[rating]
    affinity[tags, rating] = 0.02
    for _ in range(30):
        balancer.reward(affinity)
    share = balancer(Problem().step())[1] / declared
    assert share[tags] > 0.9 * share[rating]


def test_nash_mtl_is_scaled_down_to_its_longest_step_alone():
    problem = Problem()
    free = problem.gradient(balancer_of("nash_mtl", max_norm=0))
    for factor in (0.5, 2.0):
        longest = factor * free.norm().item()
        found = problem.gradient(balancer_of("nash_mtl", max_norm=longest))
        close(found, free * min(1.0, factor), 1e-8)


def test_nash_mtl_scales_kept_weights_by_the_gradients_of_each_step():
    balancer = balancer_of("nash_mtl", update_weights_every=3, max_norm=1.0)
    norms = [Problem(seed).gradient(balancer).norm().item() for seed in range(4)]
    assert max(norms) == pytest.approx(1)
    free = balancer_of("nash_mtl", update_weights_every=3, max_norm=0)
    kept = [free(Problem(seed).step())[1] for seed in range(7)]
    assert [place for place in range(1, 7) if not torch.equal(kept[place], kept[place - 1])] == [3, 6]


def test_a_bargain_with_a_task_at_its_optimum_is_finite():
    gramian = torch.diag(torch.tensor([1.0, 0.0, 4.0]).double())
    found = bargain(gramian)
    assert found.isfinite().all()
    close(found[[0, 2]], torch.tensor([1.0, 0.5]).double(), 1e-6)


def test_gradnorm_leaves_a_task_without_label_and_weighs_its_tasks_by_their_number():
    present = (True, True, False, True, True, True)
    balancer = balancer_of("gradnorm")
    for seed in range(3):
        weights = balancer(Problem(seed, present).step())[1]
        assert weights[2] == 0
    assert balancer.own.detach().sum().item() == pytest.approx(NUM_TASKS)  # pyright: ignore
    assert (balancer.own > 0).all()  # pyright: ignore


def test_equal_weights_are_one_over_the_number_of_tasks():
    weights = balancer_of("equal")(Problem().step())[1]
    assert weights.tolist() == pytest.approx([1 / NUM_TASKS] * NUM_TASKS)


def test_dtp_keeps_the_performance_of_a_task_without_label_and_counts_the_newest_by_alpha():
    balancer = balancer_of("dtp", alpha=0.25, gamma=1.0)
    first, second = Problem(0), Problem(1, (False,) + (True,) * (NUM_TASKS - 1))
    balancer(first.step()), balancer(second.step())
    expected = 0.75 * torch.exp(-first.values) + 0.25 * torch.exp(-second.values)
    expected[0] = torch.exp(-first.values[0])
    close(balancer.performance, expected)  # pyright: ignore


def test_the_bandit_moves_by_the_reward_over_the_largest_and_stays_within_six():
    balancer = balancer_of("bandit", targets=["rating", "click"], eta=0.5)
    rating, click, tags = (TASKS.index(name) for name in ("rating", "click", "tags"))
    affinity = torch.full((NUM_TASKS, NUM_TASKS), torch.nan).double()
    affinity[tags, rating], affinity[tags, click] = -0.03, 0.01  # a mean of -0.01
    affinity[click, rating] = 0.02
    balancer.reward(affinity)
    scores = balancer.scores.clone()  # pyright: ignore
    assert (scores[tags].item(), scores[click].item()) == pytest.approx((-0.25, 0.5))
    for _ in range(40):
        balancer.reward(affinity)
    assert (balancer.scores[tags].item(), balancer.scores[click].item()) == (-6, 6)  # pyright: ignore
    balancer.reward(torch.full_like(affinity, torch.nan))
    assert balancer.scores[tags] == -6  # pyright: ignore
    weights = balancer_of("bandit", targets=["rating"])(Problem().step())[1]
    declared = torch.tensor(list(small_experiment().weights().values()), dtype=torch.float64)
    policy = torch.where(torch.arange(NUM_TASKS) == rating, 1.0, 0.5)
    close(weights, declared * policy * declared.sum() / (declared * policy).sum())


def test_a_step_that_overflows_changes_no_state():
    """float16 has infinite gradients now and then; the model skips such a step."""
    for kind in ("gradnorm", "gradvac", "db_mtl", "dtp", "uncertainty", "imtl_l"):
        balancer = balancer_of(kind)
        balancer(Problem(0).step())
        before = {name: value.clone() for name, value in balancer.state_dict().items() if torch.is_tensor(value)}
        broken = Problem(1)
        broken.values, broken.jacobian = broken.values * torch.inf, broken.jacobian * torch.inf
        balancer(broken.step())
        for name, value in before.items():
            assert torch.equal(balancer.state_dict()[name], value), (kind, name)
