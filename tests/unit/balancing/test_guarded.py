"""The guard: what harms the main task loses weight, what helps it keeps its own, and the main task is not touched."""

import pytest
import torch

from mtl_ray.balancing import build_balancer
from mtl_ray.balancing.guarded import FEWEST, MEMORY, GuardedBalancer, describe_guard, guard_factors
from mtl_ray.config import override
from tests.support import small_experiment
from tests.unit.balancing.problem import NUM_TASKS, TASKS, Problem, close

MAIN, HARMFUL, HELPFUL, IDLE = (TASKS.index(name) for name in ("rating", "tags", "click", "gender"))


def guard(**settings) -> GuardedBalancer:
    changes = {"main": "rating", "balancing": {"kind": "guarded", **settings}}
    found = build_balancer(override(small_experiment(), changes))
    assert isinstance(found, GuardedBalancer)
    return found


def measured(guard: GuardedBalancer, number: int, seed: int = 0, harm: float = -1e-3) -> None:
    """So many measurements, with noise as large as the effects: of one task `harm`, of one that helps, of one none."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        gains = torch.full((NUM_TASKS, NUM_TASKS), torch.nan).double()
        noise = 1e-3 * torch.randn(3, generator=generator).double()
        effects = torch.tensor([harm, 1e-3, 0.0]).double() + noise
        of = [HARMFUL, HELPFUL, IDLE]
        gains[of, MAIN] = effects * guard.factors[of]
        guard.reward(gains)


def test_a_harmful_task_loses_weight_and_no_other_does():
    balancer = guard()
    measured(balancer, 100)
    assert balancer.factors[HARMFUL].item() == pytest.approx(0.05)
    assert balancer.factors[[HELPFUL, MAIN]].tolist() == [1, 1]
    assert balancer.factors[IDLE] > 0.2


def test_what_a_task_loses_goes_to_none():
    balancer = guard()
    before = balancer(Problem().step())[1]
    measured(balancer, 100)
    after = balancer(Problem().step())[1]
    assert after[HARMFUL] < before[HARMFUL]
    assert torch.equal(after[[MAIN, HELPFUL]], before[[MAIN, HELPFUL]])
    close(before, torch.tensor(list(small_experiment().weights().values()), dtype=torch.float64))


def test_weight_comes_back_when_the_evidence_turns():
    balancer = guard()
    measured(balancer, 100)
    measured(balancer, 3 * MEMORY, seed=1, harm=1e-3)
    assert balancer.factors[HARMFUL] == 1


def test_a_few_measurements_are_no_evidence():
    balancer = guard()
    measured(balancer, FEWEST - 1, harm=-1.0)
    assert balancer.factors.tolist() == [1] * NUM_TASKS


@pytest.mark.parametrize(("harm", "factor"), [(1e-3, 1.0), (0.0, 1.0), (-1e-3, 0.3173), (-2e-3, 0.0455), (-1.0, 0.02)])
def test_a_weight_is_cut_to_the_p_value_of_the_harm(harm: float, factor: float):
    balancer = guard(floor=0.02)
    for deviation in (2, -2) * 5:  # a mean of `harm` with a standard error of 0.001, per share of the weight
        gains = torch.full((NUM_TASKS, NUM_TASKS), torch.nan).double()
        gains[HARMFUL, MAIN] = (harm + deviation * 1e-3 * 10**0.5 / 2) * balancer.factors[HARMFUL]
        balancer.reward(gains)
    assert balancer.factors[HARMFUL].item() == pytest.approx(factor, abs=1e-4)


def test_the_statistic_is_that_of_the_measurements_until_they_are_many():
    balancer, values = guard(), torch.tensor([3e-3, 1e-3, 2e-3, -1e-3]).double()
    for value in values:
        gains = torch.full((NUM_TASKS, NUM_TASKS), torch.nan).double()
        gains[HELPFUL, MAIN] = value
        balancer.reward(gains)
    expected = values.mean() / (values.var(correction=0) / len(values)).sqrt()
    close(balancer.statistic[HELPFUL], expected)
    assert balancer.counts.sum() == len(values)
    assert balancer.statistic[IDLE] == 0


def test_effects_count_per_share_of_the_weight():
    """Else the effect of a task would seem to fade because its weight was cut."""
    balancer = guard()
    measured(balancer, 100)
    assert balancer.means[HARMFUL].item() == pytest.approx(-1e-3, rel=0.4)


def test_a_task_alone_has_nothing_to_guard():
    tree = small_experiment().model_dump(mode="json", exclude_unset=True)["tasks"]
    alone = {"tasks": {"rating": tree["rating"]}, "balancing": "guarded"}
    balancer = build_balancer(override(small_experiment(), {**alone, "balancing": {"kind": "guarded"}}))
    assert (balancer.probe_every, balancer.probe_rows) == (0, 0)
    assert balancer.metrics() == {}


def test_factors_of_an_earlier_training_hold_and_nothing_is_measured():
    found = guard()
    measured(found, 100)
    balancer = guard(factors=guard_factors(found.metrics()))
    assert balancer.probe_every == 0
    close(balancer.factors, found.factors)
    assert describe_guard(balancer.metrics(), "rating") == []


def test_it_says_what_harms_and_what_helps_with_numbers():
    balancer = guard()
    measured(balancer, 100)
    lines = {line.split(":")[0]: line for line in describe_guard(balancer.metrics(), "rating")}
    assert set(lines) == {"tags", "click", "gender"}  # of the others nothing was measured
    assert "turn steps away from lower validation losses of rating (t = -" in lines["tags"]
    assert "over the last 40 measurements); it keeps 5% of its weight" in lines["tags"]
    assert "turn steps towards" in lines["click"]
    assert lines["click"].endswith("it keeps its weight")
    assert "hardly matter to" in lines["gender"]
