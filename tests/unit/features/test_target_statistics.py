"""Slices of time: where their edges are, and which cells a row may know."""

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.features.target_statistics import FOLDS, SLICES, TargetStatistics, slice_borders, slices_of
from mtl_ray.values.partition import ITEM, TIME, USER, Partition


def partition(times: list[float], borders: tuple[float, ...] = ()) -> Partition:
    number = len(times)
    table = pa.table(
        {USER: [f"u{n % 50}" for n in range(number)], ITEM: [f"i{n % 7}" for n in range(number)], TIME: times}
    )
    return Partition(table, np.zeros(number, np.int8), np.zeros(number), pa.table({}), {}, borders)


def test_slices_have_about_as_many_rows_each():
    counts = np.ones(640)
    borders = slice_borders(counts, 0.0, 640.0, None)
    assert borders == tuple(float(10 * place) for place in range(1, SLICES))


def test_slices_end_where_the_training_rows_end():
    counts = np.ones(640)
    borders = slice_borders(counts, 0.0, 640.0, 64.0)
    assert borders == tuple(float(place) for place in range(1, SLICES))
    assert max(slice_borders(counts, 0.0, 640.0, 63.5)) <= 64


def test_an_instant_with_many_rows_is_one_slice():
    counts = np.zeros(10)
    counts[3], counts[7] = 90, 10
    assert slice_borders(counts, 0.0, 10.0, None) == (4.0, 8.0)


def test_a_row_at_a_border_is_in_the_later_slice():
    rows = partition([0.0, 1.0, 1.5, 2.0, 3.0], (1.0, 2.0))
    assert slices_of(rows, 0, timed=True).tolist() == [0, 1, 1, 2, 2]


def test_rows_without_a_time_are_in_folds_by_user_and_item():
    rows = partition([0.0] * 700)
    found = slices_of(rows, 0, timed=False)
    assert set(found.tolist()) == set(range(FOLDS))
    assert found[:350].tolist() == found[350:].tolist()
    assert found.tolist() != slices_of(rows, 1, timed=False).tolist()


@pytest.fixture
def statistics() -> TargetStatistics:
    keys = pa.array(["a", "a", "a", "b", None, "a", "b"])
    labels = np.array([1.0, 3.0, np.nan, 5.0, 9.0, 7.0, 2.0])
    slices = np.array([0, 0, 1, 1, 0, 2, 4])
    halves = (slice(0, 3), slice(3, 7))
    first, second = (TargetStatistics.of(keys[half], slices[half], labels[half]) for half in halves)
    return first + second


def test_a_key_has_the_number_and_the_sum_of_its_labels(statistics: TargetStatistics):
    found = statistics.by_key()
    assert found.values.to_pylist() == ["a", "b"]
    assert found.counts.to_pylist() == [3, 2]
    assert found.totals is not None
    assert found.totals.to_pylist() == [11.0, 7.0]


def test_a_row_knows_strictly_earlier_slices_or_all_others(statistics: TargetStatistics):
    keys, slices = pa.array(["a", "a", "a", "b", "b", "c"]), np.array([0, 1, 2, 1, 4, 0])
    earlier = statistics.others(keys, slices, earlier=True)
    assert earlier.tolist() == [[0, 0], [2, 4], [2, 4], [0, 0], [1, 5], [0, 0]]
    others = statistics.others(keys, slices, earlier=False)
    assert others.tolist() == [[1, 7], [3, 11], [2, 4], [1, 2], [1, 5], [0, 0]]
