import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_ray.evaluation.significance import Summary, bootstrap_bounds, holm, paired_p, summarize


def test_holm_gives_the_values_computed_by_hand():
    # sorted: .005 x 4 = .02; .01 x 3 = .03; .03 x 2 = .06; .04 x 1 = .04, raised to the .06 before it
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.dictionaries(st.integers(), st.floats(0, 1), max_size=8))
def test_holm_raises_p_values_keeps_their_order_and_lies_below_bonferroni(p_values):
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    for key, p in p_values.items():
        assert p <= adjusted[key] <= min(1, len(p_values) * p)
        assert all(adjusted[key] <= adjusted[other] for other in p_values if p < p_values[other])


def test_the_paired_test_gives_the_value_computed_by_hand():
    # differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641 with 2 degrees of freedom
    # P(|t_2| > t) = 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14)
    p = paired_p([11, 22, 33], [10, 20, 30])
    assert p == pytest.approx(1 - (12 / 14) ** 0.5)


def test_pairs_find_a_difference_that_their_spread_hides():
    baseline = [0.90, 1.00, 1.10, 0.95, 1.05]
    better = [value - 0.01 + noise for value, noise in zip(baseline, (1e-3, -1e-3, 0, 2e-3, -2e-3), strict=True)]
    p = paired_p(better, baseline)
    unpaired = paired_p(sorted(better), sorted(baseline, reverse=True))
    assert p is not None
    assert unpaired is not None
    assert p < 0.001
    assert unpaired > 0.5


@pytest.mark.parametrize(
    ("values", "baseline"),
    [([1.0], [2.0]), ([], []), ([1.0, 2.0], [1.0, 2.0]), ([1.1, 2.1, 3.1], [1.0, 2.0, 3.0])],
    ids=["one pair", "no pair", "equal", "the same difference everywhere"],
)
def test_there_is_no_p_value_where_the_test_says_nothing(values, baseline):
    assert paired_p(values, baseline) is None


def test_a_single_value_has_no_deviation():
    assert summarize([2.0]).sd is None
    assert summarize([1.0, 3.0]).sd == pytest.approx(2**0.5)


def test_one_pair_says_nothing_and_two_do():
    assert paired_p([1.0, 2.5], [0.5, 1.0]) == pytest.approx(1 - 2 / np.pi * np.arctan(2))  # t_1 of t = 1 / 0.5


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_differences_vary_only_beyond_the_rounding_of_the_values(scale: float):
    baseline = [scale, 2 * scale, 3 * scale]
    rounded = [value + max(1.0, 3 * scale) * 1e-13 * place for place, value in enumerate(baseline)]
    assert paired_p(rounded, baseline) is None
    varied = [value + max(1.0, 3 * scale) * 1e-11 * place**2 for place, value in enumerate(baseline)]
    assert paired_p(varied, baseline) is not None


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_each_bound_is_crossed_with_the_level(level: float):
    values = iter(np.random.default_rng(0).permutation(101))
    low, high = bootstrap_bounds(lambda _: float(next(values)), 3, 101, level)
    assert (low, high) == pytest.approx((100 * level, 100 - 100 * level))


def test_clusters_are_drawn_with_replacement_from_all_of_them():
    drawn = []
    bootstrap_bounds(lambda numbers: drawn.append(numbers) or 0.0, 4, 200, 0.05)
    assert len(drawn) == 200
    assert {len(numbers) for numbers in drawn} == {4}
    assert set(np.concatenate(drawn)) == {0, 1, 2, 3}
    assert any(len(set(numbers)) < 4 for numbers in drawn)
    again = []
    bootstrap_bounds(lambda numbers: again.append(numbers) or 0.0, 4, 200, 0.05)
    assert np.array_equal(drawn, again)


def test_a_summary_is_mean_deviation_and_number():
    assert summarize([1.0, 2.0, 6.0]) == Summary(3.0, pytest.approx(7**0.5), 3)
