"""Borders of buckets: of values that differ, heavy ones alone, the same from one partition or many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_ray.values.quantiles import SIZE, Distribution


def rows_of(numbers: np.ndarray, borders: tuple[float, ...]) -> list[int]:
    return np.bincount(np.searchsorted(borders, numbers, side="right"), minlength=len(borders) + 1).tolist()


def test_zero_and_any_heavy_value_have_a_bucket_of_their_own():
    rng = np.random.default_rng(0)
    numbers = np.concatenate([np.zeros(5000), np.full(3000, 7.0), rng.normal(0, 10, 2000)])
    borders = Distribution.of(numbers).borders(10)
    assert len(borders) == 9
    rows = rows_of(numbers, borders)
    assert sorted(rows)[-2:] == [3000, 5000]
    assert max(sorted(rows)[:-2]) < 1.5 * 2000 / 8
    assert {0.0, 7.0} < set(borders)


def test_few_values_have_a_bucket_each():
    assert Distribution.of(np.array([3.0, 1, 1, np.nan, 2])).borders(5) == (2.0, 3.0)


@pytest.mark.parametrize("numbers", [[], [np.nan], [4.0, 4.0]])
def test_one_value_or_none_needs_no_border(numbers):
    assert Distribution.of(np.array(numbers, float)).borders(4) == ()


def test_buckets_of_different_values_have_about_the_same_rows():
    numbers = np.random.default_rng(0).normal(size=100_000)
    rows = rows_of(numbers, Distribution.of(numbers).borders(20))
    assert len(rows) == 20
    assert max(rows) - min(rows) <= 2 * 100_000 / SIZE


def test_a_heavy_value_is_counted_exactly_over_partitions_of_many_values():
    rng = np.random.default_rng(1)
    numbers = np.where(rng.random(60_000) < 0.4, 0, rng.exponential(size=60_000))
    first, *others = (Distribution.of(part) for part in np.array_split(numbers, 7))
    borders = sum(others, first).borders(20)
    rows = rows_of(numbers, borders)
    assert rows[0] == (numbers == 0).sum()
    assert max(rows[1:]) - min(rows[1:]) <= 7 * 60_000 / SIZE


@given(st.lists(st.integers(-5, 40), min_size=1, max_size=300), st.integers(2, 12), st.integers(0, 300))
def test_borders_do_not_depend_on_the_partition_and_are_no_more_than_asked_for(values, buckets, cut):
    numbers = np.array(values, float)
    whole = Distribution.of(numbers)
    parts = Distribution.of(numbers[:cut]) + Distribution.of(numbers[cut:])
    borders = whole.borders(buckets)
    assert parts.borders(buckets) == borders
    assert len(borders) < buckets
    assert list(borders) == sorted(set(borders))
    assert min(rows_of(numbers, borders)) > 0
    heavy = [v for v, n in zip(*np.unique(numbers, return_counts=True), strict=True) if n > 2 * len(numbers) / buckets]
    for value in heavy:
        inside = np.searchsorted(borders, numbers, side="right") == np.searchsorted(borders, value, side="right")
        assert set(numbers[inside]) == {value}
