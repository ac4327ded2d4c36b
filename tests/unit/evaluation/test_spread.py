"""The spread of an ensemble beside its error."""

import math

import pytest
import torch

from mtl_ray.evaluation.spread import CENTRAL, spread_checks
from mtl_ray.reporting.html import HtmlReport
from mtl_ray.runs.ensemble_report import add_ensemble
from mtl_ray.runs.records import TrainedMember
from mtl_ray.schema import FittedTask
from mtl_ray.tasks.base import build_task
from tests.support import small_experiment

TASKS = {name: build_task(small_experiment().tasks[name], FittedTask()) for name in ("click", "rating")}
NAN = math.nan
ROWS = {
    "click": torch.tensor([0.5, 0.9, 0.1, 0.2]),
    "click.std": torch.tensor([0.1, 0.2, 0.3, 0.4]),
    "click.label": torch.tensor([1.0, 1.0, NAN, 0.0]),
    "rating": torch.tensor([3.0, 3.0, 3.0, 3.0]),
    "rating.std": torch.tensor([0.0, 1.0, 0.0, 2.0]),
    "rating.label": torch.tensor([3.5, 5.0, 4.0, NAN]),
}
SEGMENTS = {"": torch.ones(4, dtype=torch.bool), "new_user": torch.tensor([False, True, True, True])}


def test_spread_and_error_are_means_over_the_labelled_rows_of_a_segment():
    found = spread_checks(TASKS, ROWS, SEGMENTS, {})
    assert found["click"].rows == 3
    assert found["click"].spread == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert found["click"].error == pytest.approx(math.sqrt((0.25 + 0.01 + 0.04) / 3))
    assert found["rating/new_user"].error == pytest.approx(math.sqrt((4 + 1) / 2))
    assert {check.inside for check in found.values()} == {None}


def test_an_interval_holds_the_labels_that_spread_and_noise_explain():
    """The gaps are 0.5, 2 and 1; the bounds are CENTRAL times 0.5, 1.118 and 0.5."""
    found = spread_checks(TASKS, ROWS, SEGMENTS, {"rating": 0.5, "click": 0.5})
    assert CENTRAL * 0.5 < 1
    assert found["rating"].inside == pytest.approx(1 / 3)
    assert found["rating/new_user"].inside == 0
    assert found["click"].inside is None


def test_a_single_model_states_no_uncertainty():
    assert spread_checks(TASKS, {name: ROWS[name] for name in ROWS if ".std" not in name}, SEGMENTS, {}) == {}


@pytest.mark.parametrize("noise", [{}, {"rating": 0.5}])
def test_the_report_tells_members_and_spread_by_segment(noise: dict[str, float]):
    report = HtmlReport("ensemble")
    members = [TrainedMember(3, 4, 6, "a"), TrainedMember(99, 5, 5, "b")]
    add_ensemble(report, members, spread_checks(TASKS, ROWS, SEGMENTS, noise))
    text = str(report.files()["report.html"])
    assert "mean over 2 members" in text
    assert ("labels inside 90%" in text) == bool(noise)
    assert ("no interval to check" in text) != bool(noise)
    assert text.count("new user") == 2
