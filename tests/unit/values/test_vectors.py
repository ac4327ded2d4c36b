"""Lists of numbers: variable or fixed-size, whole or not, as they come from files."""

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.data.preparation.row_checks import clean_table
from mtl_ray.values.vectors import bad_vectors, digests, to_vectors
from tests.support import small_experiment

GOOD = [[1.0, 2.0], None, [3.0, 4.0]]
TYPES = [
    *(pa.list_(number) for number in (pa.float32(), pa.float64(), pa.uint8(), pa.int64())),
    pa.large_list(pa.float32()),
    *(pa.list_(number, 2) for number in (pa.float32(), pa.uint8())),
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_lists_of_any_type_become_rows_and_null_is_nan(kind):
    for values in (pa.array(GOOD, kind), pa.array([[9, 9], *GOOD], kind).slice(1)):
        rows = to_vectors(values, 2, "v")
        assert rows.dtype == np.float32
        assert np.array_equal(rows, [[1, 2], [np.nan, np.nan], [3, 4]], equal_nan=True)
        assert not any(flags.any() for flags, _ in bad_vectors(values, 2))


@pytest.mark.parametrize("values", [pa.nulls(2), pa.nulls(2, pa.string()), pa.nulls(2, pa.list_(pa.float32(), 3))])
def test_a_column_of_nulls_has_no_vector(values):
    assert np.isnan(to_vectors(values, 3, "v")).all()
    assert not any(flags.any() for flags, _ in bad_vectors(values, 3))


def test_unusable_entries_are_told_apart():
    values = pa.array([[1.0, 2.0], [1.0], None, [1.0, None], [float("inf"), 0.0], []])
    reasons = {why: np.flatnonzero(flags).tolist() for flags, why in bad_vectors(values, 2)}
    assert reasons == {"has not 2 numbers": [1, 5], "holds a number that is null or not finite": [3, 4]}
    texts = pa.array(["1,2", None])
    assert [(flags.tolist(), why) for flags, why in bad_vectors(texts, 2)] == [
        ([True, False], "is not a list of numbers")
    ]


def test_a_row_with_a_hole_counts_as_null_and_another_length_is_an_error():
    rows = to_vectors(pa.array([[1.0, None], [1.0, float("nan")], [1.0, 2.0]]), 2, "v")
    assert np.isnan(rows).all(1).tolist() == [True, True, False]
    with pytest.raises(ValueError, match=r"v: expected lists of 3 numbers; found lengths \[2\]"):
        to_vectors(pa.array([[1.0, 2.0], None]), 3, "v")
    with pytest.raises(ValueError, match="v: expected lists of 3 numbers; found string"):
        to_vectors(pa.array(["1 2 3"]), 3, "v")


def test_digests_are_equal_for_equal_lists_alone():
    texts = digests(pa.array([[1.0, 2.0], [2.0, 1.0], None, [1.0, 2.0], [], [1.0]])).to_pylist()
    assert texts[0] == texts[3]
    assert texts[2] is None
    assert len(set(texts)) == 5


def test_a_side_table_loses_vectors_of_another_length():
    feature = {"kind": "vector", "entity": "item", "size": 2}
    experiment = small_experiment(features__embedding=feature, model__interaction="concat")
    table = pa.table({"item_id": ["a", "b", "a", "c"], "embedding": [[1.0, 2.0], [1.0], [3.0, 4.0], [1.0, None]]})
    clean, mended = clean_table(experiment, table, "item_id", "items")
    assert clean["embedding"].to_pylist() == [[1.0, 2.0], None, None]
    assert mended == {
        "items.item_id is repeated": 1,
        "items.embedding has not 2 numbers": 1,
        "items.embedding holds a number that is null or not finite": 1,
    }
