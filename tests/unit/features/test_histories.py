"""Histories and audiences: the interactions of its user and of its item that a row knows."""

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.config.features import SequenceFeatureConfig
from mtl_ray.features.histories import histories
from mtl_ray.values.partition import ITEM, NONE, SHOWN, TEST, TIME, TRAIN, USER, Partition

KEYS = {"user": USER, "item": ITEM}


def bucket(n: int = 300) -> Partition:
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(0, n // 2, n)).astype(float)  # with ties
    users, items = (pa.array([f"{side}{key}" for key in rng.integers(0, 12, n)]) for side in "ui")
    split = rng.choice([TRAIN, TRAIN, TRAIN, TEST, SHOWN, NONE], n).astype(np.int8)
    return Partition(pa.table({USER: users, ITEM: items, TIME: time}), split, np.zeros(n), pa.table({}), {})


@pytest.mark.parametrize("entity", KEYS)
@pytest.mark.parametrize("known", ["past", "all"])
@pytest.mark.parametrize("length", [4, 100])
def test_a_list_holds_what_the_row_may_know_and_never_the_row_itself(entity, known, length):
    rows = bucket()
    key, time = rows.table[KEYS[entity]].to_pylist(), rows.table[TIME].to_numpy()
    feature = SequenceFeatureConfig(entity=entity, of="other", max_length=length, known=known)
    found = histories(rows, feature, "random")
    numbers = np.arange(1, len(key) + 1)
    padded = found.rows(numbers, length)
    lists = found.lists(pa.array(numbers)).to_pylist()
    some = np.array([7, 3, 200])
    assert found.at(some).lists(pa.array(numbers)).to_pylist() == [lists[row] for row in some]
    np.testing.assert_array_equal(found.at(some).rows(numbers, length), padded[some])
    for row in range(len(key)):
        expected = [
            other
            for other in range(len(key))
            if key[other] == key[row]
            and rows.split[other] in (TRAIN, SHOWN)
            and (other != row if known == "all" else time[other] < time[row])
        ][-length:]
        assert lists[row] == [number + 1 for number in expected]
        assert padded[row].tolist() == lists[row] + [0] * (length - len(expected))


@pytest.mark.parametrize("entity", KEYS)
def test_under_the_time_split_evaluation_rows_are_known_to_later_ones(entity):
    rows = bucket()
    found = histories(rows, SequenceFeatureConfig(entity=entity, of="other", max_length=1000), "time")
    time, key = rows.table[TIME].to_numpy(), np.array(rows.table[KEYS[entity]].to_pylist())
    earlier = [(key[:row] == key[row]) & (time[:row] < time[row]) for row in range(len(time))]
    assert found.sizes.tolist() == [int((before & (rows.split[: len(before)] != NONE)).sum()) for before in earlier]
