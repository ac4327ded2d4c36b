"""The verdict of a report, and the intervals and calibration that it rests on."""

import numpy as np
import pytest
import torch

from mtl_ray.evaluation.baselines import BASELINES
from mtl_ray.evaluation.significance import jackknife_interval
from mtl_ray.evaluation.uncertainty import calibration, intervals
from mtl_ray.inference.evaluate import Evaluation
from mtl_ray.runs.figures import segment_bars
from mtl_ray.runs.report import judge, verdict
from mtl_ray.schema import USER_KEY, FittedTask
from mtl_ray.tasks.base import build_task
from tests.support import small_experiment

RATING = small_experiment().tasks["rating"]
CLICK = small_experiment().tasks["click"]


def evaluation(interval: tuple[float, float], baseline: float = 1.0) -> Evaluation:
    keys = [f"test/rating/rmse{suffix}" for suffix in ("", "/warm", "/new_user")]
    found = {name: {} for name in BASELINES}
    found |= {"constant": dict.fromkeys(keys, baseline + 0.1), "user_mean": dict.fromkeys(keys, baseline)}
    counts = {key.replace("rmse", "count"): 40.0 for key in keys}
    return Evaluation(dict.fromkeys(keys, 0.9) | counts, found, {keys[1]: interval})


def test_the_interval_of_a_mean_is_that_of_student():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    left_out = [np.delete(values, place).mean() for place in range(4)]
    low, high = jackknife_interval(values.mean(), left_out)
    width = 3.182446 * values.std(ddof=1) / 2  # t(0.975, 3) and the root of n
    assert (low, high) == pytest.approx((3.5 - width, 3.5 + width), abs=1e-5)


def test_a_difference_is_clear_outside_of_the_interval_alone():
    assert judge(evaluation((0.85, 0.95)), "test/rating/rmse/warm") == ("better", "1.000 by user mean")
    assert judge(evaluation((0.85, 0.95), 0.8), "test/rating/rmse/warm") == ("worse", "0.800 by user mean")
    assert judge(evaluation((0.75, 1.05)), "test/rating/rmse/warm")[0] == "no clear difference"
    assert judge(evaluation((0.85, 0.95)), "test/rating/rmse/new_user")[0] == "no clear difference"  # no interval
    assert judge(evaluation((0.85, 0.95)), "test/click/auc") == ("", "")


def test_the_verdict_counts_tasks_for_known_and_new():
    told = verdict(small_experiment(), evaluation((0.85, 0.95)))
    assert "for known users and items on 1 of 1 tasks, for new users on 0 of 1 tasks" in told
    assert "new items" not in told
    worse = verdict(small_experiment(), evaluation((0.85, 0.95), 0.5))
    assert "for known users and items on 0 of 1 tasks (worse on 1)" in worse
    assert "no test row" in verdict(small_experiment(), Evaluation({}, {name: {} for name in BASELINES}))


def test_a_segment_without_a_value_is_not_drawn():
    figure = segment_bars(small_experiment(), evaluation((0.85, 0.95)))
    bars = {axis.get_title().partition(":")[0]: len(axis.patches) for axis in figure.axes if axis.axison}
    assert bars["rating"] == 3
    assert bars["click"] == 0


def rows(num_users: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    users = torch.arange(num_users).repeat_interleave(10)
    noise = torch.randn(len(users), generator=generator)
    return {USER_KEY: users, "rating": torch.zeros(len(users)), "rating.label": noise}


def test_intervals_are_over_users_and_need_some():
    task = {"rating": build_task(RATING, FittedTask())}
    many, few = rows(100), rows(4)
    found = intervals(task, many, {"": torch.ones(1000) > 0, "warm": torch.arange(1000) < 30}, "test")
    assert list(found) == ["test/rating/rmse"]  # three users are too few
    low, high = found["test/rating/rmse"]
    rmse = float(many["rating.label"].square().mean().sqrt())
    assert low < rmse < high
    assert high - low == pytest.approx(4 * rmse / 2000**0.5, rel=0.5)  # two standard errors on both sides
    assert intervals(task, few, {"": torch.ones(40) > 0}, "test") == {}


def test_calibrated_predictions_lie_on_the_diagonal():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(50_000, generator=generator)
    label = (torch.rand(50_000, generator=generator) < probability).float()
    found = calibration({"click": build_task(CLICK, FittedTask())}, {"click": probability, "click.label": label})
    assert [b.rows for b in found["click"]] == [5000] * 10
    assert [b.predicted for b in found["click"]] == pytest.approx(np.arange(0.05, 1, 0.1), abs=0.01)
    assert all(abs(b.observed - b.predicted) < 4 * b.error for b in found["click"])
