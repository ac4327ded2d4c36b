"""Intervals over groups of users, and bins of the calibration, against values by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from mtl_ray.evaluation.significance import jackknife_interval
from mtl_ray.evaluation.uncertainty import calibration, intervals
from mtl_ray.models import build_model
from mtl_ray.schema import USER_KEY, label_column
from tests.support import small_experiment
from tests.unit.conftest import schema_of

LABEL = label_column("rating")


@pytest.fixture(scope="module")
def heads():
    experiment = small_experiment()
    return build_model(experiment, schema_of(experiment)).tasks


@pytest.fixture
def tasks(heads):
    return {"rating": heads["rating"]}


def rows(errors: list[float], users: list[int]) -> dict[str, torch.Tensor]:
    """Ratings of 3 that are predicted with errors."""
    label = torch.full((len(errors),), 3.0)
    return {"rating": label + torch.tensor(errors), LABEL: label, USER_KEY: torch.tensor(users)}


def test_the_interval_is_the_jackknife_over_users(tasks):
    errors, users = [1.0, 2.0, 0.0, 1.0, 3.0, 1.0], [4, 4, 9, 17, 20, 33]
    found = intervals(tasks, rows(errors, users), {"": torch.ones(6, dtype=torch.bool)}, "test")
    squared, user = np.square(errors), np.array(users)
    left_out = [np.sqrt(squared[user != each].mean()) for each in sorted(set(users))]
    assert found == {"test/rating/rmse": pytest.approx(jackknife_interval(np.sqrt(squared.mean()), left_out))}


@pytest.mark.parametrize(("number", "has"), [(4, False), (5, True)])
def test_fewer_than_five_users_have_no_interval(tasks, number: int, has: bool):
    inside = torch.arange(8) < number
    found = intervals(tasks, rows([float(n) for n in range(8)], list(range(8))), {"warm": inside}, "test")
    assert set(found) == ({"test/rating/rmse/warm"} if has else set())


def test_many_users_make_twenty_groups(tasks):
    generator = np.random.default_rng(0)
    errors, users = generator.normal(size=400), np.arange(400) // 2
    found = intervals(tasks, rows(errors.tolist(), users.tolist()), {"": torch.ones(400, dtype=torch.bool)}, "test")
    squared = np.square(errors.astype(np.float32).astype(float))
    left_out = [np.sqrt(squared[users % 20 != group].mean()) for group in range(20)]
    assert found["test/rating/rmse"] == pytest.approx(jackknife_interval(np.sqrt(squared.mean()), left_out), rel=1e-5)


def test_rows_without_a_label_are_in_no_interval_and_no_bin(tasks):
    log = rows([1.0] * 30, list(range(30)))
    log[LABEL][:10] = torch.nan
    log["rating"][10:] += torch.arange(20) % 2
    low, high = intervals(tasks, log, {"": torch.ones(30, dtype=torch.bool)}, "valid")["valid/rating/rmse"]
    assert low < np.sqrt(2.5) < high
    (only,) = calibration(tasks, log)["rating"]
    assert only.rows == 20


def test_an_interval_has_the_degrees_of_freedom_of_its_groups():
    # of the mean of 1, 2, 3, 4, 5: the jackknife's error is the standard error, sqrt(2.5 / 5)
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    left_out = [np.delete(values, each).mean() for each in range(5)]
    low, high = jackknife_interval(3.0, left_out)
    width = 2.776445 * np.sqrt(0.5)  # t_4 at 97.5%
    assert (low, high) == pytest.approx((3 - width, 3 + width), abs=1e-6)
    low, high = jackknife_interval(3.0, left_out, level=0.8)
    assert high - 3 == pytest.approx(3 - low) == pytest.approx(student.ppf(0.9, 4) * np.sqrt(0.5))


def test_bins_have_similar_predictions_and_the_standard_error_of_their_labels(tasks):
    random = np.random.default_rng(1)
    prediction, label = random.permutation(60).astype(float), random.normal(size=60)
    log = {"rating": torch.tensor(prediction), LABEL: torch.tensor(label), USER_KEY: torch.arange(60)}
    found = calibration(tasks, log)["rating"]
    assert [each.rows for each in found] == [20, 20, 20]
    assert [each.predicted for each in found] == [9.5, 29.5, 49.5]
    second = label[(prediction >= 20) & (prediction < 40)]
    assert found[1].observed == pytest.approx(second.mean())
    assert found[1].error == pytest.approx(np.sqrt(second.var(ddof=1) / 20))


@pytest.mark.parametrize(("number", "bins"), [(19, 0), (20, 1), (39, 1), (40, 2), (220, 10)])
def test_a_bin_has_twenty_rows_and_there_are_at_most_ten(tasks, number: int, bins: int):
    found = calibration(tasks, rows([float(n) for n in range(number)], list(range(number))))
    assert len(found.get("rating", [])) == bins


def test_a_metric_that_a_group_decides_whether_it_is_defined_has_no_interval(heads):
    log = rows([0.0] * 12, [n // 2 for n in range(12)])
    label = torch.tensor([1.0, 0.0, *[0.0] * 10])  # without the first user there is no positive
    log |= {"click": torch.linspace(0, 1, 12), label_column("click"): label}
    every = {"": torch.ones(12, dtype=torch.bool)}
    assert intervals({"click": heads["click"]}, log, every, "test") == {}
    log[label_column("click")] = torch.tensor([1.0, 0.0] * 6)
    assert set(intervals({"click": heads["click"]}, log, every, "test")) == {"test/click/auc"}
