"""Numbers that float64 holds and the model's float32 cannot square are set aside, and no number becomes infinite."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.schema import FittedFeature, FittedTask, Schema
from mtl_ray.storage import Folder, json_text
from mtl_ray.values.moments import FARTHEST, scaled, standardised
from mtl_ray.values.numbers import LARGEST, bad_numbers, mend_numbers, parse_numbers
from mtl_ray.values.vectors import bad_vectors, to_vectors

TOO_LARGE = [1e39, 3.4e38, 1.7976931348623157e308, -1e39, 1.9e19]


@pytest.mark.parametrize("number", TOO_LARGE)
def test_a_number_that_cannot_be_squared_is_bad_and_null_in_a_table(number: float):
    values = pa.array([1.0, number, 1.8e19, None])
    flags = [(why, bad.tolist()) for bad, why in bad_numbers(*parse_numbers(values), "age") if bad.any()]
    assert flags == [("age is beyond 1.8e+19", [False, True, False, False])]
    mended, counts = mend_numbers(values)
    assert mended.to_pylist() == [1.0, None, 1.8e19, None]
    assert {why: count for why, count in counts.items() if count} == {"is beyond 1.8e+19": 1}


@pytest.mark.parametrize("number", TOO_LARGE[1:2] + TOO_LARGE[4:])
def test_so_is_a_number_of_a_vector(number: float):
    values = pa.array([[1.0, 2.0], [number, 0.0], [1.0, None]])
    reasons = {why: bad.tolist() for bad, why in bad_vectors(values, 2)}
    assert reasons["holds a number beyond 1.8e+19"] == [False, True, False]
    assert np.isnan(to_vectors(values, 2, "v")[1]).all()


def test_what_remains_is_squared_within_float32():
    assert np.isfinite(np.float32(LARGEST * (1 - 1e-7)) ** 2)
    assert np.isfinite(scaled(np.array([LARGEST, -LARGEST]), 0.0, 1e-30)).all()


def test_a_number_far_from_the_training_rows_is_cut_and_no_training_row_is():
    numbers = np.array([0.0] * 9_999 + [1e15])
    mean, std = numbers.mean(), numbers.std()
    assert np.array_equal(scaled(numbers, mean, std), ((numbers - mean) / std).astype(np.float32))
    assert scaled(np.array([1e18, -1e18, np.nan]), 0.0, 1.0)[:2].tolist() == [FARTHEST, -FARTHEST]
    assert standardised(np.array([np.nan, 1e18]), 0.0, 1.0).tolist() == [0.0, FARTHEST]


def test_fitted_numbers_that_are_not_finite_are_named():
    schema = Schema(
        features={"age": FittedFeature(mean=math.inf, std=1.0), "kind": FittedFeature()},
        tasks={"stars": FittedTask(std=math.nan)},
        num_rows={},
        train_offsets=(),
        num_lanes=1,
        fingerprint="",
        content_hash="",
    )
    assert schema.not_finite() == ["features.age.mean", "tasks.stars.std"]


def test_json_has_null_where_a_number_is_not_finite(tmp_path):
    value = {"a": [1.5, math.nan, {"b": -math.inf}], "c": (1, True, None, "NaN")}
    expected = {"a": [1.5, None, {"b": None}], "c": [1, True, None, "NaN"]}
    refuse = lambda word: pytest.fail(f"{word} is no JSON")  # noqa: E731
    assert json.loads(json_text(value), parse_constant=refuse) == expected
    Folder(str(tmp_path)).write_json("x.json", value)
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse) == expected
