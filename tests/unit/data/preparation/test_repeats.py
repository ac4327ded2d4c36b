"""Repeats: which of several equal rows are set aside."""

import pyarrow as pa
import pytest

from mtl_ray.data.preparation.repeats import repeats
from mtl_ray.values.partition import ITEM, TIME, USER

LOG = pa.table(
    {
        TIME: [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0],
        USER: ["u", "u", "u", "u", "u", "v", "u", "u", "u"],
        ITEM: ["a", "a", "b", "a", "a", "a", "a", "a", "a"],
        "rating": [5, 5, 5, 5, 4, 5, 5, None, None],
    }
)


@pytest.mark.parametrize(
    ("wanted", "places"),
    [("exact", [1, 8]), ("first", [1, 4, 8]), ("last", [0, 3, 7]), ("keep", [])],
)
def test_the_setting_says_which_row_of_several_stays(wanted, places: list[int]):
    assert repeats(LOG, wanted).nonzero()[0].tolist() == places


@pytest.mark.parametrize("last", [[1.0, 2.0], ["x", "y"]])
def test_lists_are_compared_by_their_entries(last: list):
    table = LOG.slice(0, 2).append_column("more", pa.array([last, last]))
    assert repeats(table, "exact").tolist() == [False, True]
    table = LOG.slice(0, 2).append_column("more", pa.array([last, last[::-1]]))
    assert repeats(table, "exact").tolist() == [False, False]


def test_rows_without_a_common_instant_repeat_nothing():
    assert not repeats(LOG.take(pa.array([0, 3, 6])), "exact").any()
    assert not repeats(LOG.slice(0, 1), "first").any()
