"""Counts, moments, vocabularies and lists of fixed length, against values by hand."""

import math

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.schema import FIRST, NULL, UNKNOWN
from mtl_ray.storage import Folder
from mtl_ray.values.counts import ValueCounts
from mtl_ray.values.keys import hash_keys
from mtl_ray.values.lists import first_entries, last_entries, to_lists
from mtl_ray.values.moments import Moments, scaled, standardised
from mtl_ray.values.vocabulary import Vocabulary, read_vocabularies, write_vocabularies


def counted(counts: ValueCounts) -> dict[str, int]:
    return dict(zip(counts.table["key"].to_pylist(), counts.table["count"].to_pylist(), strict=True))


VALUES = pa.array(["b", "a", None, "b", "true", "1"])


def test_values_are_counted_by_their_keys():
    assert counted(ValueCounts.of_keys(VALUES)) == {"b": 2, "a": 1, "true": 1, "1": 1}
    for values in (VALUES, VALUES.dictionary_encode(), VALUES.dictionary_encode()[:]):
        assert counted(ValueCounts.of_values(values)) == {"b": 2, "a": 1, "1": 2}
    unused = VALUES.dictionary_encode()[1:3]
    assert counted(ValueCounts.of_values(unused)) == {"a": 1}


def test_entries_of_lists_are_counted_in_every_row():
    lists = pa.array(["a|b", "b", None, "a|b", "", "a||a"])
    for values in (lists, lists.dictionary_encode()):
        assert counted(ValueCounts.of_lists(values, "|")) == {"a": 4, "b": 3}


def test_counts_add_up_and_vocabularies_begin_with_the_most_frequent():
    total = ValueCounts.of_keys(pa.array(["b", "c", "a"])) + ValueCounts.of_keys(pa.array(["c", "b", "d"]))
    assert counted(total) == {"a": 1, "b": 2, "c": 2, "d": 1}
    assert total.vocabulary().values.to_pylist() == ["b", "c", "a", "d"]
    assert total.vocabulary().counts.to_pylist() == [2, 2, 1, 1]
    assert total.vocabulary(2).values.to_pylist() == ["b", "c"]
    assert total.vocabulary(3).values.to_pylist() == []


@pytest.mark.parametrize(("values", "constant"), [([], True), (["a"], True), (["a", "a"], True), (["a", "b"], False)])
def test_fewer_than_two_values_are_constant(values: list[str], constant: bool):
    assert ValueCounts.of_keys(pa.array(values, pa.string())).is_constant == constant


def test_moments_are_those_of_the_population_without_nan():
    found = Moments.of(np.array([1.0, math.nan, 4.0, 4.0]))
    assert (found.count, found.mean, found.squares) == (3, 3.0, 6.0)
    assert found.std == pytest.approx(2**0.5)
    assert found.scale == (3.0, pytest.approx(2**0.5))


def test_moments_of_parts_add_up_to_those_of_the_whole():
    numbers = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    for cut in range(6):
        found, whole = Moments.of(numbers[:cut]) + Moments.of(numbers[cut:]), Moments.of(numbers)
        assert (found.count, found.mean, found.squares) == pytest.approx((whole.count, whole.mean, whole.squares))


def test_no_number_and_equal_numbers_are_constant_and_are_divided_by_one():
    nothing, equal = Moments.of(np.array([math.nan])), Moments.of(np.array([5.0, 5.0]))
    assert (nothing + nothing) == nothing == Moments()
    assert (nothing.std, nothing.is_constant, nothing.scale) == (0.0, True, (None, None))
    assert (equal.std, equal.is_constant, equal.scale) == (0.0, True, (5.0, 1.0))
    assert not Moments.of(np.array([5.0, 6.0])).is_constant


def test_numbers_are_scaled_by_what_was_fitted_and_stay_without_it():
    numbers = np.array([1.0, 5.0, math.nan])
    assert scaled(numbers, 3.0, 2.0)[:2].tolist() == [-1.0, 1.0]
    assert scaled(numbers, None, None)[:2].tolist() == [1.0, 5.0]
    assert math.isnan(scaled(numbers, 3.0, 2.0)[2])
    assert standardised(numbers, 3.0, 2.0).tolist() == [-1.0, 1.0, 0.0]
    assert scaled(numbers, 3.0, 2.0).dtype == np.float32


WORDS = Vocabulary(pa.array(["a", "b"]), pa.array([5, 3]), pa.array([2.5, -1.0]))
NONE = Vocabulary(pa.array([], pa.string()), pa.array([], pa.int64()), pa.array([], pa.float64()))
KEYS = pa.array(["b", None, "x", "a", "b"])


def test_a_key_has_its_row_its_training_rows_and_its_labels():
    assert WORDS.rows(KEYS).tolist() == [FIRST + 1, NULL, UNKNOWN, FIRST, FIRST + 1]
    assert WORDS.support(KEYS).tolist() == [3, 0, 0, 5, 3]
    assert WORDS.target_sums(KEYS).tolist() == [[3, -1], [0, 0], [0, 0], [5, 2.5], [3, -1]]
    assert NONE.rows(KEYS).tolist() == [UNKNOWN, NULL, UNKNOWN, UNKNOWN, UNKNOWN]
    assert NONE.support(KEYS).tolist() == [0] * 5
    assert NONE.target_sums(KEYS).tolist() == [[0, 0]] * 5
    assert (len(WORDS), len(NONE)) == (2, 0)


def test_vocabularies_are_read_as_they_were_written(tmp_path):
    folder = Folder(str(tmp_path))
    plain = Vocabulary(pa.array(["True", "y"]), pa.array([2, 1]))
    write_vocabularies(folder, {"mean": WORDS, "flag": plain})
    found = read_vocabularies(folder, ["flag", "mean", "other"], ["flag"])
    assert list(found) == ["flag", "mean", "other"]
    for name in ("values", "counts", "totals"):
        assert getattr(found["mean"], name).to_pylist() == getattr(WORDS, name).to_pylist()
    assert found["flag"].values.to_pylist() == ["True", "y"]
    assert found["flag"].counts.to_pylist() == [2, 1]
    assert read_vocabularies(folder, ["flag"])["flag"].values.to_pylist() == ["1", "y"]
    assert (len(found["other"]), found["other"].totals.to_pylist()) == (0, [])


def test_a_vocabulary_of_before_totals_is_read(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write_table("vocabulary.parquet", pa.table({"feature": ["x"], "value": ["a"], "count": [4]}))
    found = read_vocabularies(folder, ["x"])["x"]
    assert (found.values.to_pylist(), found.counts.to_pylist(), found.totals) == (["a"], [4], None)


@pytest.mark.parametrize(
    ("length", "first", "last"),
    [
        (1, [[1], [0], [5], [6]], [[4], [0], [5], [7]]),
        (2, [[1, 2], [0, 0], [5, 0], [6, 7]], [[3, 4], [0, 0], [5, 0], [6, 7]]),
        (4, [[1, 2, 3, 4], [0] * 4, [5, 0, 0, 0], [6, 7, 0, 0]], [[1, 2, 3, 4], [0] * 4, [5, 0, 0, 0], [6, 7, 0, 0]]),
    ],
)
def test_the_first_or_last_entries_are_padded_on_the_right(length: int, first: list, last: list):
    lists = pa.array([[1, 2, 3, 4], [], [5], [6, 7]])
    values = lists.flatten().to_numpy()
    assert first_entries(values, lists, length).tolist() == first
    assert last_entries(values, lists, length).tolist() == last


def test_lists_without_any_entry_are_padding():
    lists = pa.array([[], []], pa.list_(pa.int64()))
    assert first_entries(np.zeros(0, np.int64), lists, 2).tolist() == [[0, 0], [0, 0]]


def test_blanks_are_no_entries_and_null_is_no_list():
    assert to_lists(pa.array(["a||b", "|", None, "c "]), "|").to_pylist() == [["a", "b"], [], None, ["c"]]
    assert to_lists(pa.array([["a", None], None, [], ["b"]]), "|").to_pylist() == [["a"], None, [], ["b"]]


def test_hashes_are_of_the_keys_alone():
    keys = pa.array(["a", "b", None, "a", ""])
    found = hash_keys(keys)
    assert found[0] == found[3] != found[1]
    assert len(set(found.tolist())) == 4
    assert hash_keys(keys[1:3]).tolist() == found[1:3].tolist()
    assert found.dtype == np.uint64
