"""Digests of unread columns: equal for equal rows, different for rows that differ in one value of one column."""

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.data.preparation.row_digests import row_digests

COLUMNS = {
    "integers": pa.array([1, 2, None, 0, 1]),
    "floats": pa.array([1.0, 1.5, None, 0.0, 1.0]),
    "codes of numbers": pa.array([1, 2, None, 0, 1]).dictionary_encode(),
    "texts": pa.array(["a", "b", None, "", "a"]),
    "codes": pa.array(["a", "b", None, "", "a"]).dictionary_encode(),
    "booleans": pa.array([True, False, None, False, True]),
    "lists": pa.array([[1, 2], [2, 1], None, [], [1, 2]]),
    "texts in lists": pa.array([["a"], ["a", "a"], None, [], ["a"]]),
    "nested lists": pa.array([[[1], [2]], [[1, 2]], None, [[]], [[1], [2]]]),
    "fixed lists": pa.array([[1, 2], [2, 1], None, [0, 0], [1, 2]], pa.list_(pa.int32(), 2)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_have_one_digest_exactly_if_they_are_equal(name: str):
    values = COLUMNS[name].to_pylist()
    found = row_digests([pa.chunked_array([COLUMNS[name]])])
    assert found.dtype == np.uint64
    for first, second in combinations(range(5), 2):
        assert (found[first] == found[second]) == (values[first] == values[second]), (values[first], values[second])


def test_zeros_nulls_and_nothing_in_lists_are_told_apart():
    columns = pa.chunked_array([pa.array([[], [0], [0, 0], None, [None]])])
    assert len(set(row_digests([columns]).tolist())) == 5


def test_values_are_told_apart_by_their_column():
    one, other = pa.chunked_array([pa.array(["a", "b"])]), pa.chunked_array([pa.array(["b", "a"])])
    first, second = row_digests([one, other])
    assert first != second
    assert len(set(row_digests([one, one]).tolist())) == 2
    assert row_digests([one, other]).tolist() != row_digests([other, one]).tolist()


def test_chunks_do_not_matter():
    whole = COLUMNS["lists"]
    parts = pa.chunked_array([whole[:2], whole[2:]])
    assert row_digests([parts]).tolist() == row_digests([pa.chunked_array([whole])]).tolist()
