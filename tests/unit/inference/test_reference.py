"""Values counted in bins, and how far two counts are apart."""

import numpy as np
import pytest
import torch

from mtl_ray.inference.reference import (
    LARGEST,
    Distribution,
    Reference,
    distribution_of,
    rate_noise,
    reference_of,
    stability_index,
    values_of,
)
from mtl_ray.schema import FIRST, ITEM_SUPPORT, NULL, PADDING, UNKNOWN, USER_SUPPORT
from tests.support import small_experiment

RANDOM = np.random.default_rng(0)


def batch() -> dict[str, torch.Tensor]:
    """Three encoded rows of the small experiment."""
    rows = {
        name: torch.full((3,), FIRST) for name in ("user_id", "item_id", "gender", "occupation", "category", "price")
    }
    rows |= {USER_SUPPORT: torch.tensor([7, 0, 2]), ITEM_SUPPORT: torch.tensor([1, 1, 1])}
    rows |= {"age": torch.tensor([0.5, float("nan"), -1.0])}
    rows["user_id"] = torch.tensor([FIRST, UNKNOWN, FIRST + 4])
    rows["price"] = torch.tensor([FIRST, NULL, FIRST + 1])
    rows["tags"] = torch.tensor([[FIRST, UNKNOWN, PADDING], [NULL, PADDING, PADDING], [FIRST, FIRST + 1, FIRST + 2]])
    rows["history"] = torch.tensor([[FIRST, FIRST], [PADDING, PADDING], [UNKNOWN, PADDING]])
    return rows


def test_values_tell_null_from_not_seen():
    predictions = {"click": np.array([0.1, 0.2, 0.3]), "occupation": np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]])}
    values = values_of(small_experiment(), batch(), predictions)
    expected = {
        "user_id": [7, np.inf, 2],
        "age": [0.5, np.nan, -1],
        "price": [FIRST, np.nan, FIRST + 1],
        "tags": [FIRST, np.inf, np.nan, FIRST, FIRST + 1, FIRST + 2],
        "history": [FIRST, FIRST, np.nan, np.inf],
        "predicted_click": [0.1, 0.2, 0.3],
        "predicted_occupation": [1, 0, 1],
    }
    for name, found in expected.items():
        np.testing.assert_array_equal(values[name], found)


def test_a_reference_survives_its_file_and_counts_its_own_rows():
    predictions = {"click": np.array([0.1, 0.2, 0.3])}
    reference = reference_of(small_experiment(), batch(), predictions, "test")
    assert Reference.model_validate_json(reference.model_dump_json()) == reference
    for name, values in values_of(small_experiment(), batch(), predictions).items():
        distribution = reference.distributions[name]
        assert tuple(distribution.count(values)) == distribution.counts
        assert distribution.total == len(values)
    assert reference.distributions["price"].null_rate == pytest.approx(1 / 3)
    assert reference.distributions["user_id"].unknown_rate == pytest.approx(1 / 3)


def test_rare_categories_share_a_bin_with_those_that_come_later():
    values = np.repeat(np.arange(LARGEST + 2.0), np.arange(LARGEST + 2, 0, -1))
    found = distribution_of(values, categories=True)
    assert found.counts == (0, 0, *range(LARGEST + 2, 2, -1), 3)
    assert list(found.count(np.array([0.0, 500.0, np.nan]))) == [1, 0, 1, *[0] * (LARGEST - 1), 1]


def test_values_that_are_all_null_have_a_distribution():
    for categories in (False, True):
        found = distribution_of(np.full(4, np.nan), categories=categories)
        assert (found.null_rate, found.counts) == (1, (4, 0, 0))
        assert list(found.count(np.array([1.0]))) == [0, 0, 1]


def test_the_index_is_that_of_its_formula_and_zero_between_equals():
    then, now = (Distribution(edges=(0.0,), counts=(0, 0, *c)) for c in ((5000, 5000), (6000, 4000)))
    psi, _ = stability_index(then, now)
    assert psi == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8), rel=1e-3)
    assert stability_index(then, then)[0] == 0


def test_unchanged_values_stay_below_the_noise_and_moved_ones_do_not():
    then = distribution_of(RANDOM.normal(size=2000), categories=False)
    above = 0
    for _ in range(200):
        psi, noise = stability_index(then, then.with_counts(then.count(RANDOM.normal(size=300))))
        above += psi > noise
    assert above <= 2
    psi, noise = stability_index(then, then.with_counts(then.count(RANDOM.normal(0.7, size=300))))
    assert psi > noise


def test_a_share_of_a_few_rows_may_rise_by_chance_and_one_of_many_may_not():
    few = [rate_noise(0.08, RANDOM.binomial(30, 0.08) / 30, 100_000, 30) for _ in range(100)]
    assert all(noise > 0.05 for noise in few)
    assert rate_noise(0.08, 0.13, 100_000, 10_000) < 0.05
    rises = RANDOM.binomial(500, 0.08, 2000) / 500 - 0.08
    assert np.mean([rise > rate_noise(0.08, 0.08 + rise, 10**6, 500) for rise in rises]) < 0.004
