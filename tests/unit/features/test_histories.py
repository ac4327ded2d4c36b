"""What a row knows of its user."""

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.config.features import SequenceFeatureConfig
from mtl_ray.features.histories import histories
from mtl_ray.values.partition import NONE, SHOWN, TEST, TIME, TRAIN, USER, Partition


def bucket(n: int = 300) -> Partition:
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(0, n // 2, n)).astype(float)  # with ties
    users = pa.array([f"u{u}" for u in rng.integers(0, 12, n)])
    split = rng.choice([TRAIN, TRAIN, TRAIN, TEST, SHOWN, NONE], n).astype(np.int8)
    return Partition(pa.table({USER: users, TIME: time}), split, np.zeros(n), pa.table({}), {})


@pytest.mark.parametrize("known", ["past", "all"])
@pytest.mark.parametrize("length", [4, 100])
def test_a_history_holds_what_the_row_may_know_and_never_the_row_itself(known, length):
    rows = bucket()
    user, time = rows.table[USER].to_pylist(), rows.table[TIME].to_numpy()
    feature = SequenceFeatureConfig(of="item", max_length=length, known=known)
    found = histories(rows, feature, "random")
    numbers = np.arange(1, len(user) + 1)
    padded = found.rows(numbers, length)
    lists = found.lists(pa.array(numbers), np.arange(len(user))).to_pylist()
    for row in range(len(user)):
        expected = [
            other
            for other in range(len(user))
            if user[other] == user[row]
            and rows.split[other] in (TRAIN, SHOWN)
            and (other != row if known == "all" else time[other] < time[row])
        ][-length:]
        assert lists[row] == [number + 1 for number in expected]
        assert padded[row].tolist() == lists[row] + [0] * (length - len(expected))


def test_under_the_time_split_evaluation_rows_are_known_to_later_ones():
    rows = bucket()
    found = histories(rows, SequenceFeatureConfig(of="item", max_length=1000), "time")
    time, user = rows.table[TIME].to_numpy(), np.array(rows.table[USER].to_pylist())
    earlier = [(user[:row] == user[row]) & (time[:row] < time[row]) for row in range(len(time))]
    assert found.sizes.tolist() == [int((before & (rows.split[: len(before)] != NONE)).sum()) for before in earlier]
