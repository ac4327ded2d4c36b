"""The split: where the cuts lie, which row is on which side of an edge, what a cold split shows and leaves out."""

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.config import override
from mtl_ray.data.preparation.passes import find_cuts
from mtl_ray.data.preparation.split import (
    Cuts,
    assign,
    cuts_from_histogram,
    declared_cuts,
    earliest,
    first_of,
    instant,
    needs_first,
    num_first_of_items,
    row_draw,
)
from mtl_ray.errors import InputError
from mtl_ray.storage import Folder
from mtl_ray.values.partition import ITEM, NONE, SHOWN, TEST, TIME, TRAIN, USER, VALID
from tests.support import small_experiment

DAY, DAY_2024 = 86_400, 1_704_067_200


def staged(users: list[str], items: list[str], times: list[float], **columns: list) -> pa.Table:
    return pa.table({USER: users, ITEM: items, TIME: pa.array(times, pa.float64()), **columns})


def codes(split: dict, table: pa.Table, draw=None, cuts: Cuts | None = None, files: list[str] | None = None) -> list:
    draw = np.zeros(len(table)) if draw is None else np.array(draw)
    file = pa.array(files or ["log.csv"] * len(table))
    return assign(small_experiment(data__split=split), table, file, draw, cuts or Cuts()).tolist()


def piece(low: float, high: float, dates: int = 0, numbers: int = 1) -> dict:
    return {"low": low, "high": high, "dates": dates, "numbers": numbers}


def test_a_row_at_a_cut_is_on_its_later_side():
    table = staged(["u"] * 5, ["i"] * 5, [9, 10, 19, 20, 21])
    assert codes({"kind": "time"}, table, cuts=Cuts((10, 20))) == [TRAIN, VALID, VALID, TEST, TEST]


def test_the_last_shares_of_the_rows_are_after_the_cuts():
    counts = np.ones(1 << 16)
    width = 65_536 / len(counts)
    assert cuts_from_histogram(counts, 0, 65_536, (0.25, 0.125)) == (width * 40_960, width * 57_344)
    late = np.zeros(1 << 16)
    late[0], late[-1] = 3, 1  # a quarter of the rows is in the last slice
    assert cuts_from_histogram(late, 0, 65_536, (0, 0.25)) == (1, 1)
    assert cuts_from_histogram(late, 0, 65_536, (0.5, 0.25)) == (1, 1)  # never more than the share
    assert cuts_from_histogram(late, 0, 65_536, (0.7, 0.3)) == (0, 1)


def test_a_share_of_nothing_has_no_row_not_even_the_last_one():
    counts = np.ones(1 << 16)
    valid, test = cuts_from_histogram(counts, 0, 65_536, (0.25, 0))
    assert valid == 49_152
    assert test == np.nextafter(65_536, np.inf)
    valid, test = cuts_from_histogram(counts, 0, 65_536, (0, 0.25))
    assert valid == test == 49_152


def test_a_random_split_takes_the_smallest_draws_for_the_test():
    table = staged(["u"] * 5, ["i"] * 5, [0] * 5)
    split = {"kind": "random", "valid": 0.25, "test": 0.5}
    assert codes(split, table, [0.0, 0.49, 0.5, 0.74, 0.75]) == [TEST, TEST, VALID, VALID, TRAIN]


def test_the_draw_of_a_row_depends_on_seed_file_and_row_and_fills_the_unit_interval():
    rows, files = np.arange(4000), pa.array(["a.csv"] * 4000)
    draw = row_draw(small_experiment(), files, rows)
    assert 0 <= draw.min() < draw.max() < 1
    assert draw.mean() == pytest.approx(0.5, abs=0.02)
    assert len(np.unique(draw)) == 4000
    assert (draw != row_draw(small_experiment(seed=4), files, rows)).all()
    assert (draw != row_draw(small_experiment(), pa.array(["b.csv"] * 4000), rows)).all()
    assert (row_draw(small_experiment(), files[:9], rows[5:14]) == draw[5:14]).all()


def test_a_predefined_split_reads_the_values_of_its_column():
    table = staged(["u"] * 6, ["i"] * 6, [0] * 6, part=["train", "test", "old", "dev", "seen", None])
    split = {"kind": "predefined", "column": "part", "train": ["train", "old"], "valid": ["dev"], "shown": ["seen"]}
    assert codes(split, table) == [TRAIN, TEST, TRAIN, VALID, SHOWN, NONE]


def test_a_predefined_split_reads_the_names_of_files_with_and_without_their_folder():
    table = staged(["u"] * 3, ["i"] * 3, [0] * 3)
    split = {"kind": "predefined", "train": ["a/log.csv"], "test": ["b.csv"]}
    assert codes(split, table, files=["a/log.csv", "x/b.csv", "b/log.csv"]) == [TRAIN, TEST, NONE]


def test_a_share_of_training_rows_alone_is_set_aside_unless_validation_is_named():
    table = staged(["u"] * 4, ["i"] * 4, [0] * 4, part=["train", "train", "test", "dev"])
    split = {"kind": "predefined", "column": "part", "valid_share": 0.5}
    draw = [0.49, 0.5, 0.1, 0.1]
    assert codes(split, table, draw) == [VALID, TRAIN, TEST, NONE]
    assert codes({**split, "valid": ["dev"]}, table, draw) == [TRAIN, TRAIN, TEST, VALID]


USERS = [f"u{number % 40}" for number in range(200)]
ITEMS = [f"i{number * 7 % 30}" for number in range(200)]
LOG = staged(USERS, ITEMS, list(range(200)))
PLACE = np.arange(200) // 40
"""How many rows of its user come before a row."""


def cold(**settings) -> np.ndarray:
    return np.array(codes({"kind": "cold", "valid_users": 0.2, "test_users": 0.3, **settings}, LOG))


def test_a_cold_split_holds_out_whole_users_in_about_the_shares():
    found = cold()
    by_user = [set(found[np.array(USERS) == user]) for user in set(USERS)]
    assert all(len(each) == 1 for each in by_user)
    assert by_user.count({VALID}) == pytest.approx(8, abs=5)
    assert by_user.count({TEST}) == pytest.approx(12, abs=5)
    assert by_user.count({TRAIN}) == pytest.approx(20, abs=6)


@pytest.mark.parametrize(("shown_to", "code"), [("history", SHOWN), ("training", TRAIN)])
def test_the_first_rows_of_a_held_out_user_are_shown_and_later_ones_evaluated(shown_to: str, code: int):
    whole = cold()
    found = cold(shown_users=2, shown_to=shown_to)
    held_out = whole != TRAIN
    assert (found[held_out & (PLACE < 2)] == code).all()
    assert (found[held_out & (PLACE >= 2)] == whole[held_out & (PLACE >= 2)]).all()
    assert (found[~held_out] == TRAIN).all()


def test_rows_before_the_first_evaluated_one_are_in_no_split_unless_they_are_shown():
    whole = cold()
    held_out = whole != TRAIN
    found = cold(shown_users=1, evaluated_after=3)
    assert (found[held_out & (PLACE == 0)] == SHOWN).all()
    assert (found[held_out & (PLACE > 0) & (PLACE < 3)] == NONE).all()
    assert (found[held_out & (PLACE >= 3)] == whole[held_out & (PLACE >= 3)]).all()
    assert (found[~held_out] == TRAIN).all()


def test_a_row_of_a_held_out_user_and_item_is_evaluated_once_the_later_of_both_splits():
    by_user, by_item = cold(), cold(valid_users=0, test_users=0, valid_items=0.2, test_items=0.3)
    assert ((by_user == TEST) & (by_item == VALID)).any()
    assert (cold(valid_items=0.2, test_items=0.3) == np.maximum(by_user, by_item)).all()


def test_the_first_rows_of_a_held_out_item_are_those_of_the_whole_log():
    settings = {"kind": "cold", "valid_users": 0, "test_users": 0, "test_items": 0.3, "shown_items": 2}
    experiment, draw = small_experiment(data__split=settings), np.linspace(0, 0.9, 200)
    assert needs_first(experiment)
    first = earliest(experiment, LOG, draw)
    found = np.array(codes(settings, LOG, draw, Cuts(first=first)))
    held_out = np.array(codes({**settings, "shown_items": 0}, LOG, draw)) == TEST
    place = np.array([ITEMS[:row].count(item) for row, item in enumerate(ITEMS)])
    assert held_out.any()
    assert (found == np.where(held_out, np.where(place < 2, SHOWN, TEST), TRAIN)).all()
    assert set(first["item"].to_pylist()) == {item for item, new in zip(ITEMS, held_out, strict=True) if new}


def test_a_row_of_a_held_out_user_and_item_is_shown_only_where_both_show_it():
    settings = {"kind": "cold", "test_users": 0.3, "valid_users": 0, "test_items": 0.3}
    shown = {**settings, "shown_users": 2, "shown_items": 2, "evaluated_after": 2}
    draw = np.linspace(0, 0.9, 200)
    first = earliest(small_experiment(data__split=shown), LOG, draw)
    found = np.array(codes(shown, LOG, draw, Cuts(first=first)))
    new_user = np.array(codes({**settings, "test_items": 0}, LOG)) == TEST
    new_item = np.array(codes({**settings, "test_users": 0}, LOG)) == TEST
    early_item = np.array([ITEMS[:row].count(item) for row, item in enumerate(ITEMS)]) < 2
    early_user = PLACE < 2
    both = new_user & new_item
    assert (both & early_user & ~early_item).any()
    seen = (new_user | new_item) & (~new_user | early_user) & (~new_item | early_item)
    assert (found[seen] == SHOWN).all()
    assert (found[both & (early_user ^ early_item)] == NONE).all()
    assert (found[(new_user & ~early_user & ~new_item) | (new_item & ~early_item & ~new_user)] == TEST).all()


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"shown_items": 2}, 2),
        ({"evaluated_after": 3}, 0),
        ({"evaluated_after": 3, "test_items": 0.1}, 3),
        ({"evaluated_after": 3, "valid_items": 0.1}, 3),
        ({"evaluated_after": 1, "shown_items": 2, "test_items": 0.1}, 2),
        ({}, 0),
    ],
)
def test_so_many_first_rows_of_an_item_are_needed(settings: dict, number: int):
    experiment = small_experiment(data__split={"kind": "cold", **settings})
    assert num_first_of_items(experiment.data.split) == number
    assert needs_first(experiment) == (number > 0)


def test_the_first_rows_of_an_item_are_by_time_then_by_draw():
    rows = pa.table({"item": ["a", "b", "a", "a"], "time": [2.0, 1.0, 1.0, 1.0], "draw": [0.1, 0.5, 0.4, 0.2]})
    assert sorted(first_of(rows, 1)["draw"].to_pylist()) == [0.2, 0.5]
    assert sorted(first_of(rows, 2)["draw"].to_pylist()) == [0.2, 0.4, 0.5]


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000], ids=["s", "ms", "us", "ns"])
def test_a_date_is_a_cut_in_the_unit_of_the_numbers(unit: int):
    experiment = small_experiment(data__split={"kind": "time", "test_from": "2024-01-02", "valid_from": "2024-01-01"})
    found = declared_cuts(experiment, [piece(DAY_2024 * unit, (DAY_2024 + 9 * DAY) * unit)])
    assert found == (DAY_2024 * unit, (DAY_2024 + DAY) * unit)


@pytest.mark.parametrize(
    ("low", "high", "known"),
    [
        (631_152_000, 4_102_444_800, True),
        (631_151_999, 4_102_444_800, False),
        (631_152_000, 4_102_444_801, False),
        (0, 100, False),
    ],
)
def test_numbers_count_from_1970_if_all_lie_between_1990_and_2100(low: float, high: float, known: bool):
    experiment = small_experiment(data__split={"kind": "time", "test_from": "2024-01-01"})
    pieces = [piece(low, low), piece(high, high)]
    if known:
        assert declared_cuts(experiment, pieces) == (DAY_2024, DAY_2024)
    else:
        with pytest.raises(InputError, match="expected a number, as the time column holds numbers that do not count"):
            declared_cuts(experiment, pieces)


def test_dates_count_seconds_and_stand_beside_no_numbers():
    experiment = small_experiment(data__split={"kind": "time", "test_from": "2024-01-01"})
    assert declared_cuts(experiment, [piece(0, 5, dates=2, numbers=0)]) == (DAY_2024, DAY_2024)
    with pytest.raises(InputError, match="found 5 dates and 3 numbers"):
        declared_cuts(experiment, [piece(0, 5, dates=2, numbers=3), piece(0, 5, dates=3, numbers=0)])


def test_cuts_may_be_equal_but_not_in_the_wrong_order():
    equal = small_experiment(data__split={"kind": "time", "valid_from": 5, "test_from": 5})
    assert declared_cuts(equal, [piece(0, 9)]) == (5, 5)
    wrong = small_experiment(data__split={"kind": "time", "valid_from": 6, "test_from": 5})
    with pytest.raises(InputError, match=r"valid_from \(6.*\) is after test_from \(5"):
        declared_cuts(wrong, [piece(0, 9)])
    assert declared_cuts(small_experiment(data__split={"kind": "time"}), [piece(0, 9)]) is None


def test_a_text_that_is_no_date_is_no_instant():
    assert instant(3, None, "here") == 3
    with pytest.raises(InputError, match="here: expected a number, or an ISO date or time; found 'later'"):
        instant("later", 1, "here")


@pytest.mark.parametrize("time", ["timestamp", None])
def test_a_log_whose_cuts_are_declared_or_not_needed_is_not_read_again(tmp_path, time: str | None):
    def never(*_):
        raise AssertionError("read again")

    declared = {"kind": "time", "test_from": 5} if time else "random"
    experiment = small_experiment(data__split=declared, features__history=None, data__time=time)
    expected = Cuts((5, 5)) if time else Cuts()
    assert find_cuts(experiment, [piece(0, 9)], Folder(str(tmp_path)), 3, never) == expected


def test_cuts_and_slices_come_from_the_times_of_all_partitions(tmp_path):
    for partition, times in enumerate(([0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0, 8.0, 9.0])):
        folder = (Folder(str(tmp_path)) / f"staging/{partition:05d}").create()
        folder.write_table("0.parquet", pa.table({TIME: times}))
    experiment = small_experiment(data__split={"kind": "time", "valid": 0.2, "test": 0.1})
    pieces = [piece(0, 3), piece(4, 9)]
    found = find_cuts(experiment, pieces, Folder(str(tmp_path)), 2, map)
    assert found.times is not None
    assert 6 < found.times[0] <= 7
    assert 8 < found.times[1] <= 9
    assert found.borders == ()
    statistic = {"kind": "statistic", "entity": "item", "of": "rating"}
    sliced = override(experiment, {"features.mean": statistic})
    borders = find_cuts(sliced, pieces, Folder(str(tmp_path)), 2, map).borders
    assert borders == pytest.approx(tuple(range(7)), abs=1e-3)  # those of training rows
