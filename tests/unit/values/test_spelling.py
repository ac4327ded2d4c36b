"""Values that are written in several ways are one, and others stay apart."""

import pyarrow as pa
import pytest

from mtl_ray.config.features import CategoricalFeatureConfig
from mtl_ray.config.formats import Spelling
from mtl_ray.errors import InputError
from mtl_ray.values.spelling import spelled, spelled_lists

FOLD = Spelling(case="fold")
MAP = Spelling(case="fold", map={"Female": "f", "?": None, "1": "one"})


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Spelling(), [" Female", "female ", "STRASSE", "Straße", "e\u0301", "É", "?", "tRuE", None, "x"]),
        (FOLD, ["female", "female", "strasse", "strasse", "é", "é", "?", "1", None, "x"]),
        (MAP, ["f", "f", "strasse", "strasse", "é", "é", None, "one", None, "x"]),
        (Spelling(map={"Female": "f"}), ["f", "female", "STRASSE", "Straße", "é", "É", "?", "tRuE", None, "x"]),
    ],
    ids=["as it is", "folded", "folded and mapped", "mapped"],
)
def test_a_value_has_the_spelling_that_is_asked_for(how: Spelling, expected: list):
    values = pa.array([" Female", "female ", "STRASSE", "Straße", "e\u0301", "É", "?", "tRuE", None, "x"])
    assert spelled(values, how).to_pylist() == expected
    if how.is_set:
        assert spelled(values.dictionary_encode(), how).to_pylist() == expected


def test_values_of_other_types_are_mapped_by_their_keys():
    assert spelled(pa.array([1.0, 2.0, None]), MAP).to_pylist() == ["one", "2", None]
    assert spelled(pa.array([True, False]), MAP).to_pylist() == ["one", "0"]
    assert spelled(pa.array([["1"]]), MAP).to_pylist() == [["1"]]


def test_entries_of_lists_are_spelled_and_those_that_mean_nothing_are_null():
    texts = pa.array(["Female| b", "?", None, "", '["FEMALE", "?"]'])
    expected = [["f", "b"], [None], None, [], ["f", None]]
    assert spelled_lists(texts, "|", MAP).to_pylist() == expected
    assert spelled_lists(texts.dictionary_encode(), "|", MAP).to_pylist() == expected
    assert spelled_lists(texts, "|", Spelling()) is texts


def test_a_name_is_a_text_whatever_yaml_takes_it_for():
    assert Spelling(map={1: 2, "a": None}).map == {"1": "2", "a": None}  # pyright: ignore[reportArgumentType]
    for names in ({True: "y"}, {"yes": False}):
        with pytest.raises(InputError, match=r"map.*found true or false, as which YAML reads yes, no, on and off"):
            CategoricalFeatureConfig(map=names)  # pyright: ignore[reportArgumentType]
