"""Validation rows that are cut from training rows: only from these, the asked-for share, as whole users or items."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.data.preparation.holdout import hold_out
from mtl_ray.data.preparation.split import Cuts, cut_before
from mtl_ray.errors import InputError
from mtl_ray.values.partition import ITEM, NONE, TEST, TIME, TRAIN, USER, VALID
from tests.support import small_experiment

ROWS = 20_000
RNG = np.random.default_rng(0)
USERS, ITEMS = RNG.integers(0, 400, ROWS), RNG.integers(0, 300, ROWS)
TABLE = pa.table({USER: USERS.astype(str), ITEM: ITEMS.astype(str), TIME: np.arange(ROWS, dtype=float)})
DRAW, SPLIT = RNG.random(ROWS), np.where(RNG.random(ROWS) < 0.2, TEST, TRAIN).astype(np.int8)


def held_out(**settings: Any) -> np.ndarray:
    experiment = small_experiment(data__split={"kind": "random", "valid": 0}, data__holdout=settings)
    return hold_out(experiment, TABLE, DRAW, SPLIT, Cuts(holdout=15_000.0))


@pytest.mark.parametrize("kind", ["rows", "users", "items", "either", "both", "time"])
def test_test_rows_stay_and_nothing_else_changes_by_chance(kind: str):
    found = held_out(kind=kind)
    assert (found[SPLIT == TEST] == TEST).all()
    assert VALID in found
    np.testing.assert_array_equal(found, held_out(kind=kind))


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_rows_have_the_share(share: float):
    found = held_out(kind="rows", share=share)[SPLIT == TRAIN]
    assert (found == VALID).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("kind", "keys"), [("users", USERS), ("items", ITEMS)])
def test_users_and_items_are_held_out_whole(kind: str, keys: np.ndarray):
    found = held_out(kind=kind, share=0.2)
    valid, train = set(keys[found == VALID]), set(keys[found == TRAIN])
    assert not valid & train
    assert len(valid) / len(valid | train) == pytest.approx(0.2, abs=0.07)


def test_a_share_of_their_rows_may_stay():
    found = held_out(kind="users", share=0.2, kept=0.25)
    of_held = np.isin(USERS, USERS[found == VALID]) & (SPLIT == TRAIN)
    assert (found[of_held] == TRAIN).mean() == pytest.approx(0.25, abs=0.03)


def test_of_both_only_rows_of_new_users_with_new_items_are_evaluated_and_the_others_left_out():
    found = held_out(kind="both", share=0.3)
    train = found == TRAIN
    for keys in (USERS, ITEMS):
        assert not set(keys[found == VALID]) & set(keys[train])
    assert (found[SPLIT == TRAIN] == NONE).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.1)


def test_of_either_rows_of_new_users_and_rows_of_new_items_are_evaluated_and_none_is_left_out():
    found = held_out(kind="either", share=0.1)
    train, valid = found == TRAIN, found == VALID
    assert not (np.isin(USERS[valid], USERS[train]) & np.isin(ITEMS[valid], ITEMS[train])).any()
    assert np.isin(USERS[valid], USERS[train]).any()
    assert np.isin(ITEMS[valid], ITEMS[train]).any()
    assert NONE not in found
    assert valid[SPLIT == TRAIN].mean() == pytest.approx(1 - 0.9**2, abs=0.05)


def test_the_last_rows_are_those_after_the_cut():
    late = np.arange(ROWS) >= 15_000
    np.testing.assert_array_equal(held_out(kind="time") == VALID, (SPLIT == TRAIN) & late)


def test_the_cut_leaves_the_share_before_the_end():
    counts = np.ones(1 << 16)
    assert cut_before(counts, 0, 65_536, np.inf, 0.25) == 49_152
    assert cut_before(counts, 0, 65_536, 32_768, 0.25) == 24_576


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__holdout": "rows"}, "data: holdout: expected a split without validation rows; `split` has some"),
        ({"data__holdout": "time", "data__time": None}, "the last rows need `time`"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str):
    split = {} if changes["data__holdout"] == "rows" else {"data__split": {"kind": "random", "valid": 0}}
    with pytest.raises(InputError, match=message):
        small_experiment(**changes, **split)
