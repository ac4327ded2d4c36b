"""The gate: what is asked of a candidate, and how sure one can be of an improvement."""

import math

import numpy as np
import pytest
import torch

from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.config.tasks import BinaryTaskConfig
from mtl_ray.evaluation.segments import compute
from mtl_ray.evaluation.significance import bootstrap_bounds
from mtl_ray.promotion.gate import Requirement, check_requirement, is_mean_over_users, requirements
from tests.support import small_experiment

GATE = PromotionConfig(draws=60)
NUM_ROWS = 1500


def rows(noise: float, seed: int = 0):
    """A metric as the gate wants it, of predictions that know the truth up to noise; the rows' users."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randint(0, 150, (NUM_ROWS,), generator=torch.Generator().manual_seed(1))
    truth = torch.rand(NUM_ROWS, generator=torch.Generator().manual_seed(2)).double()
    label = (torch.rand(NUM_ROWS, generator=torch.Generator().manual_seed(3)).double() < truth).float()
    prediction = truth + noise * torch.randn(NUM_ROWS, generator=generator).double()

    def metric(name: str):
        def of(places: torch.Tensor, numbers: torch.Tensor) -> float:
            value = compute(name, BinaryTaskConfig(), prediction[places], label[places], numbers)
            return math.nan if value is None else value

        return of

    return metric, users


def found(requirement: Requirement, candidate: float, champion: float, gate: PromotionConfig = GATE):
    ours, users = rows(candidate)
    theirs, _ = rows(champion, seed=5)
    result = check_requirement(gate, requirement, ours(requirement.metric), theirs(requirement.metric), users)
    assert result is not None
    return result


def test_a_better_candidate_passes_the_target_and_a_worse_one_does_not():
    target = Requirement("click", "auc", "", None)
    better, worse, equal = found(target, 0.1, 0.6), found(target, 0.6, 0.1), found(target, 0.3, 0.3)
    assert better.passed
    assert better.low > 0
    assert not worse.passed
    assert worse.high < 0
    assert f"{worse.low:+.4f}" in worse.refusal()
    assert not equal.passed


def test_a_guard_lets_a_loss_pass_that_is_surely_within_its_margin():
    loss = found(Requirement("click", "auc", "", 0.5), 0.15, 0.1)
    assert loss.improvement < 0
    assert loss.passed
    strict = found(Requirement("click", "auc", "", 0.0), 0.15, 0.1)
    assert not strict.passed
    assert strict.needed == 0


def test_a_segment_with_few_users_decides_nothing_and_says_so():
    worse = found(Requirement("click", "auc", "new_user", 0.0), 0.6, 0.1, PromotionConfig(draws=20, min_users=1000))
    assert worse.passed
    assert "too few" in worse.outcome
    assert not found(Requirement("click", "auc", "new_user", 0.0), 0.6, 0.1, PromotionConfig(draws=20)).passed


def test_a_lower_loss_is_an_improvement():
    assert found(Requirement("click", "ece", "", None), 0.0, 2.0).improvement > 0


def test_means_over_users_are_the_same_by_user_and_computed_again(monkeypatch: pytest.MonkeyPatch):
    wanted = Requirement("click", "ndcg@10", "", None)
    short = found(wanted, 0.1, 0.6, PromotionConfig(draws=5))
    monkeypatch.setattr("mtl_ray.promotion.gate.is_mean_over_users", lambda _: False)
    again = found(wanted, 0.1, 0.6, PromotionConfig(draws=5))
    assert (short.low, short.high) == pytest.approx((again.low, again.high), abs=1e-6)


def test_means_over_users_are_told_from_metrics_over_rows():
    assert [is_mean_over_users(name) for name in ("ndcg@10", "recall@5", "auc", "gauc", "unknown")] == [
        *(True, True, False, False, False),
    ]


def test_bounds_of_a_mean_over_clusters_are_those_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(2, 1, 400)
    low, high = bootstrap_bounds(lambda drawn: float(values[drawn].mean()), 400, 4000, 0.05)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.645 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.645 * error, abs=0.1 * error)


def test_bounds_leave_out_draws_without_a_value():
    values = np.array([math.nan, 1.0, 1.0])
    assert bootstrap_bounds(lambda drawn: float(values[drawn[:1]].mean()), 3, 50, 0.05) == (1.0, 1.0)
    assert math.isnan(bootstrap_bounds(lambda _: math.nan, 3, 5, 0.05)[0])


def test_every_task_is_guarded_by_default_and_the_target_but_once():
    asked = [str(each) for each in requirements(small_experiment())]
    assert asked[:4] == ["click/auc", "click/auc/new_user", "click/auc/new_item", "click/auc/warm"]
    assert "rating/rmse/new_item" in asked
    assert len(set(asked)) == len(asked)


def test_the_target_may_be_a_segment():
    experiment = small_experiment(
        promotion__metric="rating/rmse/new_user", promotion__guards={"rating/rmse": 0.01, "click/auc": 0.1}
    )
    asked = requirements(experiment)
    assert str(asked[0]) == "rating/rmse/new_user"
    assert [r.margin for r in asked if r.task == "click"] == [0.1] * 4
    assert [str(r) for r in asked if r.task == "rating"].count("rating/rmse/new_user") == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("metric", "clik/auc", "a task of this file"),
        ("metric", "click/rmse", "a metric of tasks.click"),
        ("metric", "click/ratio", "a metric of tasks.click"),
        ("metric", "click/auc/old_user", "TASK/METRIC"),
        ("guards", {"click/auc/warm": 0.1}, "promotion.guards: expected `TASK/METRIC`"),
    ],
)
def test_a_gate_that_names_no_metric_of_the_file_is_refused(path: str, value, message: str):
    with pytest.raises(ValueError, match=message):
        small_experiment(**{f"promotion__{path}": value})
