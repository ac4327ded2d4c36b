"""The same log in other types, notations and files gives the same data set; what cannot be meant is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.schema import SPLITS

IDS, NUM_ROWS = 90_000_000_000, 300


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user_id": IDS + rng.integers(1, 12, NUM_ROWS),
            "item_id": rng.integers(1, 9, NUM_ROWS),
            "ts": np.sort(rng.choice(10**6, NUM_ROWS, replace=False)) + 1_700_000_000,
            "vip": rng.integers(0, 2, NUM_ROWS).astype(bool),
            "age": rng.integers(18, 70, NUM_ROWS),
            "click": rng.integers(0, 2, NUM_ROWS),
            "rating": rng.integers(1, 6, NUM_ROWS).astype(float),
        }
    )


TREE = {
    "name": "rough",
    "data": {"source": {"kind": "table", "interactions": "log.parquet"}, "time": "ts", "split": "time"},
    "features": {
        "user_id": {"kind": "id", "entity": "user"},
        "item_id": {"kind": "id", "entity": "item"},
        "vip": {"kind": "categorical", "entity": "user"},
        "age": {"kind": "numeric", "entity": "user"},
    },
    "tasks": {"click": {"kind": "binary"}, "rating": {"kind": "regression"}},
}


def experiment(folder: Path, log: pd.DataFrame | pa.Table, *, csv: bool = False, **changes: Any) -> Experiment:
    """Write a log and return an experiment on it; `changes` replace sections and, below `data`, settings."""
    data = {**TREE["data"], "raw": str(folder), "output": str(folder / "out")}
    if csv:
        assert isinstance(log, pd.DataFrame)
        log.to_csv(folder / "log.csv", index=False)
        data["source"] = {"kind": "table", "interactions": "log.csv"}
    else:
        pq.write_table(log if isinstance(log, pa.Table) else pa.Table.from_pandas(log), folder / "log.parquet")
    sections = {name: changes.pop(name) for name in ("features", "tasks") if name in changes}
    return parse({**TREE, **sections, "data": {**data, **changes}}, "test")


def with_column(log: pd.DataFrame, **columns: Any) -> pa.Table:
    table = pa.Table.from_pandas(log, preserve_index=False)
    for name, values in columns.items():
        array = values if isinstance(values, pa.Array) else pa.array(values)
        table = table.set_column(table.column_names.index(name), name, array)
    return table


def same(first: Prepared, second: Prepared) -> None:
    assert second.schema.content_hash == first.schema.content_hash
    assert second.schema.tasks == first.schema.tasks
    assert second.schema.num_rows == first.schema.num_rows


@pytest.fixture(scope="module")
def expected(log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(experiment(tmp_path_factory.mktemp("expected"), log))


TYPES: dict[str, Callable[[pd.DataFrame], pa.Table]] = {
    "ids as floats": lambda log: with_column(log, user_id=log.user_id.astype(float), item_id=log.item_id.astype(float)),
    "ids as unsigned": lambda log: with_column(log, user_id=pa.array(log.user_id, pa.uint64())),
    "ids as decimals": lambda log: with_column(log, user_id=pa.array(log.user_id).cast(pa.decimal128(21, 2))),
    "ids as text": lambda log: with_column(log, user_id=log.user_id.astype(str)),
    "ids as text views": lambda log: with_column(log, user_id=pa.array(log.user_id.astype(str), pa.string_view())),
    "ids as binary": lambda log: with_column(log, user_id=[str(v).encode() for v in log.user_id]),
    "ids as a dictionary": lambda log: with_column(log, user_id=pa.array(log.user_id).dictionary_encode()),
    "flags as integers": lambda log: with_column(log, vip=log.vip.astype(int), click=log.click.astype("int8")),
    "flags as floats": lambda log: with_column(log, vip=log.vip.astype(float), click=log.click.astype(float)),
    "flags as text": lambda log: with_column(log, vip=log.vip.astype(str), click=log.click.astype(bool).astype(str)),
    "numbers as text": lambda log: with_column(log, age=log.age.astype(str), rating=log.rating.astype(str)),
    "numbers as decimals": lambda log: with_column(log, age=pa.array(log.age).cast(pa.decimal128(20, 1))),
    "times as seconds": lambda log: with_column(log, ts=pa.array(log.ts, pa.timestamp("s"))),
    "times as milliseconds": lambda log: with_column(log, ts=pa.array(log.ts * 1000, pa.timestamp("ms"))),
    "times as nanoseconds": lambda log: with_column(log, ts=pa.array(log.ts * 10**9, pa.timestamp("ns"))),
    "times with a zone": lambda log: with_column(log, ts=pa.array(log.ts * 10**6, pa.timestamp("us", "Asia/Kolkata"))),
    "times as large integers": lambda log: with_column(log, ts=log.ts * 10**9),
    "times as text": lambda log: with_column(log, ts=pd.to_datetime(log.ts, unit="s").astype(str)),
    "times as text with a zone": lambda log: with_column(
        log, ts=pd.to_datetime(log.ts, unit="s", utc=True).dt.tz_convert("Europe/Berlin").astype(str)
    ),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_data_set_does_not_depend_on_the_types_of_its_columns(
    tmp_path: Path, log: pd.DataFrame, expected: Prepared, kind: str
):
    same(expected, prepare(experiment(tmp_path, TYPES[kind](log))))


@pytest.mark.parametrize("notation", ["plain", "with dates", "with floats"])
def test_a_data_set_from_csv_is_that_from_parquet(tmp_path: Path, log: pd.DataFrame, expected: Prepared, notation: str):
    if notation == "with dates":
        log = log.assign(ts=pd.to_datetime(log.ts, unit="s", utc=True))
    if notation == "with floats":
        log = log.astype({"user_id": float, "item_id": float, "click": float})
    same(expected, prepare(experiment(tmp_path, log, csv=True)))


def test_a_day_is_a_time(tmp_path: Path, log: pd.DataFrame):
    days = pd.to_datetime(log.ts, unit="s").dt.date
    split = {"kind": "time", "test_from": str(days.iloc[-1])}
    rows = log.assign(row=range(NUM_ROWS))
    prepared = prepare(
        experiment(tmp_path, with_column(rows, ts=pa.array(days, pa.date32())), split=split, max_bad_share=0.5)
    )
    assert prepared.schema.num_rows["test"] > 0
    (tmp_path / "csv").mkdir()
    same(
        prepared, prepare(experiment(tmp_path / "csv", rows.assign(ts=days), csv=True, split=split, max_bad_share=0.5))
    )


@pytest.mark.parametrize("text", ["2023-11-23", "2023-11-23 00:00:00", "2023-11-23T01:00:00+01:00", 1700697600])
def test_a_cut_is_a_date_in_any_notation(tmp_path: Path, log: pd.DataFrame, text: str | int):
    table = with_column(log, ts=pa.array(log.ts, pa.timestamp("s")))
    prepared = prepare(experiment(tmp_path, table, split={"kind": "time", "test_from": text}))
    assert prepared.schema.num_rows["test"] == int((log.ts >= 1700697600).sum()) > 0


def test_dates_and_numbers_in_one_time_column_are_refused(tmp_path: Path, log: pd.DataFrame):
    mixed = log.ts.astype(str).where(log.index > 3, "2023-11-20")
    with pytest.raises(InputError, match=r"data.time: expected dates or numbers in all rows of `ts`; found 4 dates"):
        prepare(experiment(tmp_path, with_column(log, ts=mixed)))


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_a_date_cuts_numbers_that_count_from_1970(tmp_path: Path, log: pd.DataFrame, unit: int):
    split = {"kind": "time", "test_from": "2023-11-23"}
    prepared = prepare(experiment(tmp_path, log.assign(ts=log.ts * unit), split=split))
    assert prepared.schema.num_rows["test"] == int((log.ts >= 1700697600).sum())
    with pytest.raises(InputError, match=r"data.split.test_from: expected a number, as the time column holds numbers"):
        prepare(experiment(tmp_path, log.assign(ts=range(NUM_ROWS)), split=split))


@pytest.mark.parametrize("csv", [False, True], ids=["parquet", "csv"])
@pytest.mark.parametrize("setting", [True, "true", "True", 1])
def test_a_flag_selects_the_same_rows_in_every_file(tmp_path: Path, log: pd.DataFrame, csv: bool, setting: Any):
    tasks = {
        "buy": {"kind": "binary", "column": "click", "where": {"vip": setting}},
        "seen": {"kind": "binary", "column": "yes", "positive": True},
    }
    rows = log.assign(yes=log.click.map({1: "yes", 0: "no"}))
    prepared = prepare(experiment(tmp_path, rows, csv=csv, tasks=tasks))
    train = log[: prepared.schema.num_rows["train"]]
    assert prepared.schema.tasks["buy"].num_labels["train"] == int(train.vip.sum())
    assert prepared.schema.tasks["buy"].mean == pytest.approx(train[train.vip].click.mean())
    assert prepared.schema.tasks["seen"].mean == pytest.approx(train.click.mean())


@pytest.mark.parametrize("kind", ["flag", "number", "text"])
def test_a_column_of_any_type_names_the_split(tmp_path: Path, log: pd.DataFrame, kind: str):
    late = log.index >= 250
    column = {"flag": late, "number": late.astype(float), "text": np.where(late, "b", "a")}[kind]
    for train, test in {"flag": [(False, True), ("false", "true"), (0, 1)], "number": [(0, 1)], "text": [("a", "b")]}[
        kind
    ]:
        split = {"kind": "predefined", "column": "part", "train": [train], "test": [test]}
        prepared = prepare(experiment(tmp_path, log.assign(part=column), split=split))
        assert [prepared.schema.num_rows[split] for split in SPLITS] == [250, 0, 50]


REFUSED = {
    "a label": (
        {"tasks": {"click": {"kind": "binary", "positive": "clicked"}}},
        r"tasks.click.positive: expected a value that occurs in the column `click`; 'clicked' is in no row; the column "
        r"has [01] \(\d+\), [01] \(\d+\); correct",
    ),
    "a population": (
        {"tasks": {"click": {"kind": "binary", "where": {"age": [20, "old"]}}}},
        r"tasks.click.where.age: expected a value that occurs in the column `age`; 'old' is in no row; the column has",
    ),
    "a split": (
        {"split": {"kind": "predefined", "column": "item_id", "train": [1, 2], "test": ["x"]}},
        r"data.split.test: expected a value that occurs in the column `item_id`; 'x' is in no row; the column has",
    ),
    "the split that is needed": (
        {"split": {"kind": "predefined", "column": "item_id"}},
        r"data.split.train: expected a value that occurs in the column `item_id`; 'train' is in no row",
    ),
    "a file": (
        {"split": {"kind": "predefined", "train": ["log.parquet"], "valid": ["other.parquet"]}},
        r"data.split.valid: expected the name of a file of the log; found 'other.parquet', not of log.parquet",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_of_the_settings_that_occurs_nowhere_is_refused(tmp_path: Path, log: pd.DataFrame, case: str):
    changes, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        prepare(experiment(tmp_path, log, **changes))
    assert not list((tmp_path / "out").glob("*/schema.json"))


@pytest.mark.parametrize(
    ("column", "task", "message"),
    [
        (1, {"kind": "binary"}, r"tasks.label: expected training labels of two classes at least; found only 1 in \d+"),
        ("a", {"kind": "multiclass"}, "tasks.label: expected training labels of two classes at least; found only a in"),
        (3.0, {"kind": "ordinal"}, "tasks.label: expected training labels of two classes at least; found only 3 in"),
        (0, {"kind": "ranking"}, "tasks.label: expected positives in training rows; found none in the column `label`"),
        (None, {"kind": "regression"}, "tasks.label: expected labels in training rows; found none in the column"),
        ("nan", {"kind": "binary"}, "tasks.label: expected labels in training rows; found none in the column"),
    ],
)
def test_a_task_from_which_nothing_can_be_learned_is_refused(
    tmp_path: Path, log: pd.DataFrame, column: Any, task: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        prepare(experiment(tmp_path, log.assign(label=column), tasks={"click": {"kind": "binary"}, "label": task}))


@pytest.mark.parametrize("reader", ["label", "class", "population", "split", "category", "statistic"])
def test_a_list_where_one_value_is_expected_makes_bad_rows(tmp_path: Path, log: pd.DataFrame, reader: str):
    table = with_column(log.assign(x=0), x=pa.array([[1, 2]] * NUM_ROWS))
    changes: dict[str, dict[str, Any]] = {
        "label": {"tasks": {"x": {"kind": "binary"}}},
        "class": {"tasks": {"x": {"kind": "multiclass"}}},
        "population": {"tasks": {"click": {"kind": "binary", "where": {"x": 1}}}},
        "split": {"split": {"kind": "predefined", "column": "x"}},
        "category": {"features": {**TREE["features"], "x": {"kind": "categorical"}}},
        "statistic": {
            "features": {**TREE["features"], "s": {"kind": "statistic", "entity": "item", "column": "x", "of": "click"}}
        },
    }
    with pytest.raises(InputError, match="300 x x is a list, not a single value"):
        prepare(experiment(tmp_path, table, **changes[reader]))


@pytest.mark.parametrize("null", [None, "nan", "N/A", "NULL", "-"])
def test_a_null_word_is_a_null_whatever_stands_beside_it(tmp_path: Path, log: pd.DataFrame, null: str | None):
    rows = log.astype({"age": object, "click": object, "rating": object})
    for first, name in enumerate(("age", "click", "rating")):
        rows.loc[rows.index % 50 == first, name] = null
    rows.loc[10, "age"] = "abc"
    prepared = prepare(experiment(tmp_path, rows, csv=True, max_bad_share=0.1))
    assert prepared.quality["reasons"] == {"age is not a number": 1}
    assert prepared.quality["label_share"]["click"]["train"] == pytest.approx(0.98, abs=0.005)
    assert prepared.schema.features["age"].mean == pytest.approx(
        pd.to_numeric(rows.age[: prepared.schema.num_rows["train"] + 1], errors="coerce").mean()
    )
    strict = experiment(tmp_path, rows, csv=True, max_bad_share=0.5, null_words=[])
    assert prepare(strict).quality["bad"] == (1 if null is None else 19)


def test_a_setting_with_its_default_leaves_the_data_sets_of_before(tmp_path: Path, log: pd.DataFrame):
    plain = prepare(experiment(tmp_path, log))
    again = prepare(experiment(tmp_path, log, null_words=list(parse(TREE, "test").data.null_words)))
    assert again.reused
    assert again.folder.location == plain.folder.location
    assert not prepare(experiment(tmp_path, log, null_words=["nothing"])).reused
