"""A date is measured from it to the row's time, or by a clock; settings without a meaning are refused."""

from typing import Any

import pyarrow as pa
import pytest

from mtl_ray.config import Experiment, parse
from mtl_ray.data.preparation.row_checks import bad_inputs, bad_rows, keys_of
from mtl_ray.errors import InputError
from mtl_ray.features.base import feature_kinds

TIMES = ["2024-05-01T23:30:00Z", "2024-05-02T01:30:00+02:00", "2024-04-30"]


def experiment(feature: dict[str, Any], **data: Any) -> Experiment:
    features = {"user": {"kind": "id", "entity": "user"}, "item": {"kind": "id", "entity": "item"}}
    tree = {
        "name": "dates",
        "data": {"source": {"kind": "table", "interactions": "log.csv"}, "time": "ts", **data},
        "features": {**features, "x": {"kind": "date", **feature}},
        "tasks": {"click": "binary"},
    }
    return parse(tree, "test")


def measured(values: list, times: list = TIMES, **feature: Any) -> list:
    ours = experiment(feature)
    return feature_kinds(ours)["x"].raw(pa.table({"x": values, "ts": times})).to_pylist()


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        ({"measure": "days"}, ["2024-05-01", "2024-05-01", None], [23.5 / 24, 23.5 / 24, None]),
        ({"measure": "days"}, ["2024-05-02", "soon", "2024-04-29"], [-0.5 / 24, None, 1.0]),
        ({"measure": "days"}, [1714521600, 1714521600000, 1985], [23.5 / 24, 23.5 / 24, None]),
        ({"measure": "years", "format": "%Y"}, [2004, 2024, 85], [20.33, 0.33, None]),
        ({"measure": "years", "format": ["%d/%m/%Y", "iso"]}, ["1/5/2014", "1940-05-01", "n/a"], [10.0, 84.0, None]),
        ({"measure": "weekday"}, [*TIMES[:2], "-"], ["wednesday", "wednesday", None]),
        ({"measure": "weekday", "zone": "Asia/Tokyo"}, TIMES, ["thursday", "thursday", "tuesday"]),
        ({"measure": "hour", "zone": "Europe/Berlin"}, [*TIMES[:2], None], ["1", "1", None]),
        ({"measure": "month"}, ["2024-12-31", "1950-01-01", "x"], ["12", "1", None]),
        ({"measure": "month", "column": "ts"}, ["-"] * 3, ["5", "5", "4"]),
    ],
    ids=str,
)
def test_a_date_is_measured(feature: dict[str, Any], values: list, expected: list):
    assert measured(values, **feature) == [pytest.approx(x, abs=0.01) if isinstance(x, float) else x for x in expected]


def test_a_row_whose_time_is_no_instant_is_told():
    ours = experiment({"measure": "days"})
    table = pa.table({"user": ["u"] * 3, "item": ["i"] * 3, "x": ["2024-05-01"] * 3, "ts": ["7", None, "1714521600"]})
    why = "ts is no date, and no number that counts from 1970, as features.x needs it"
    assert bad_rows(ours, table, keys_of(ours, table)).to_pylist() == [why, "ts is null", None]
    assert bad_inputs(ours, table).to_pylist() == [why, None, None]
    lists = pa.table({"x": [["2024-05-01"]], "ts": [None]})
    assert bad_inputs(ours, lists).to_pylist() == ["x is a list, not a single value"]


def test_the_time_of_the_log_is_written_as_its_format_says():
    ours = experiment({"measure": "weekday", "column": "ts"}, time_format="%d.%m.%Y")
    table = pa.table({"user": ["u"] * 3, "item": ["i"] * 3, "ts": ["01.05.2024", "2024-05-01", "-"]})
    why = "ts is not written as data.time_format says: %d.%m.%Y"
    assert bad_rows(ours, table, keys_of(ours, table)).to_pylist() == [None, why, "ts is null"]
    assert feature_kinds(ours)["x"].raw(table)[0].as_py() == "wednesday"


@pytest.mark.parametrize(
    ("feature", "data", "message"),
    [
        (
            {"measure": "days"},
            {"time": None},
            "features.x.measure: `days` count to the time of the row; set `data.time`",
        ),
        ({"measure": "days", "zone": "Asia/Tokyo"}, {}, "zone: `days` count from instant to instant"),
        ({"measure": "month", "buckets": 3}, {}, "`buckets` and `encoder` are for numbers, and `month` is a category"),
        ({"measure": "month", "zone": "Mars"}, {}, "expected a time zone such as Europe/Berlin; found 'Mars'"),
        ({"measure": "month", "format": "%Q"}, {}, "expected `iso` or a pattern such as %d/%m/%Y; found '%Q'"),
        ({"measure": "month", "format": []}, {}, "format"),
        ({"measure": "month"}, {"time": None, "time_format": "%Y"}, "time_format: needs `time`"),
    ],
)
def test_settings_that_mean_nothing_are_refused(feature: dict[str, Any], data: dict[str, Any], message: str):
    with pytest.raises(InputError) as told:
        experiment(feature, **data)
    assert message in str(told.value)
