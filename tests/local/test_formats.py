"""Raw cells as people write them give the data set, and the scores, of clean ones; what is lost is counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config import Experiment, override, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.preparation.findings import findings
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.models import build_model, checkpoint
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.values.vocabulary import VOCABULARY
from mtl_ray.workflows.plan import plan

NUM_ROWS = 200
GENDER = {"kind": "categorical", "case": "fold", "map": {"female": "f", "femal": "f", "Fem.": "f", "male": "m"}}
MADE = ["iso", "%d/%m/%Y"]
TREE: dict[str, Any] = {
    "name": "shop",
    "data": {
        "time": "ts",
        "time_format": ["iso", "%d.%m.%Y %H:%M:%S"],
        "source": {"kind": "table", "interactions": "log.csv", "items": "items.csv"},
    },
    "features": {
        "user": {"kind": "id", "entity": "user"},
        "item": {"kind": "id", "entity": "item"},
        "price": {"kind": "numeric", "entity": "item", "format": "money"},
        "fee": {"kind": "numeric", "format": "money", "decimal": ",", "buckets": 4},
        "basket": {"kind": "sequence", "of": "item", "values": "spent", "max_length": 5},
        "age": {"kind": "date", "entity": "item", "column": "made", "measure": "years", "format": MADE},
        "new": {"kind": "date", "entity": "item", "column": "made", "measure": "days", "format": MADE, "buckets": 4},
        "season": {"kind": "date", "entity": "item", "column": "made", "measure": "month", "format": MADE},
        "day": {"kind": "date", "column": "ts", "measure": "weekday"},
        "hour": {"kind": "date", "column": "ts", "measure": "hour", "zone": "Asia/Kolkata"},
        "gender": {"entity": "item", **GENDER},
        "colours": {"kind": "multi_categorical", "case": "fold", "map": {"rot": "red", "?": None}, "separator": ","},
        "usual": {"kind": "statistic", "entity": "user", "of": "spent"},
    },
    "tasks": {
        "click": {"kind": "binary", "positive": "y", "case": "fold", "map": {"Taken": "y"}},
        "gift": {"kind": "binary", "map": {"wrapped": 1, "bare": 0}},
        "mood": {"kind": "multiclass", "case": "fold"},
        "spent": {"kind": "value", "format": "money"},
    },
}


def euros(number: float) -> str:
    return f"{number:,.2f} €".translate(str.maketrans(",.", ".,")) if number == number else "free"  # noqa: PLR0124


def frames(*, raw: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The log and the items, as people write them, or clean."""
    rng = np.random.default_rng(0)
    times = pd.Timestamp("2024-03-01") + pd.to_timedelta(np.sort(rng.integers(0, 10**7, NUM_ROWS)), "s")
    log = pd.DataFrame({"user": rng.integers(0, 9, NUM_ROWS), "item": rng.integers(0, 20, NUM_ROWS), "ts": times})
    log["fee"], log["spent"] = rng.integers(1000, 9000, NUM_ROWS), rng.integers(0, 10**7, NUM_ROWS) / 100
    for label, words in {"click": "ny", "gift": "01", "mood": "abc"}.items():
        log[label] = rng.choice([*words], NUM_ROWS)
    log["colours"] = rng.choice(["red", "red,blue", "blue", ""], NUM_ROWS)
    items = pd.DataFrame({"item": range(20), "price": [np.nan, *(rng.integers(1, 10**8, 19) / 100)]})
    items["gender"], items["made"] = [*"ffmmx"] * 4, pd.to_datetime("1985-06-07") + pd.to_timedelta(range(20), "W")
    if raw:
        log["fee"] = log.fee.map(lambda fee: f"EUR {fee:,}".replace(",", "."))
        log["spent"] = log.spent.map("${:,.2f}".format)
        log["click"], log["mood"] = log.click.map({"y": " TAKEN", "n": "No"}), log.mood.str.upper()
        log["gift"] = log.gift.map({"1": "wrapped", "0": "bare"})
        log["colours"] = log.colours.map({"red": "Rot", "red,blue": "?, red ,BLUE", "blue": "blue,?", "": "?"})
        log["ts"] = log.ts.dt.strftime("%d.%m.%Y %H:%M:%S")
        items["made"] = [f"{day:%d/%m/%Y}" if day.month == 6 else f"{day:%Y-%m-%d}" for day in items.made]
        items["price"] = items.price.map(euros)
        items["gender"] = ["Female ", "FEMAL", "male", "M", "X"] * 4
    return log, items


def experiment(folder: Path, log: pd.DataFrame, items: pd.DataFrame) -> Experiment:
    folder.mkdir(exist_ok=True)
    log.to_csv(folder / "log.csv", index=False)
    items.to_csv(folder / "items.csv", index=False)
    return override(parse(TREE, "test"), {"data.raw": str(folder), "data.output": str(folder / "out")})


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Prepared]:
    """The data sets of raw and of clean cells."""
    folder = tmp_path_factory.mktemp("formats")
    return {raw: prepare(experiment(folder / str(raw), *frames(raw=raw))) for raw in (True, False)}


def test_the_data_set_is_that_of_clean_cells(both: dict[bool, Prepared]):
    assert both[True].schema.features == both[False].schema.features
    assert both[True].schema.content_hash == both[False].schema.content_hash


def test_lost_cells_are_told_with_an_example(both: dict[bool, Prepared], tmp_path: Path):
    lost = both[True].quality["lost"]["features.price"]
    assert lost == {"column": "price", "cells": 20, "lost": 1, "examples": ["'free' (item 0)"]}
    line = "1 of 20 cells (5.0%) of `price` cannot be read by features.price.format, such as 'free' (item 0)"
    assert f"{line}: read as null" in findings(both[True].quality)
    assert f"{line}: read as null" in plan(experiment(tmp_path, *frames(raw=True))).findings
    assert not [line for line in findings(both[False].quality) if "cannot be read" in line]


def test_a_name_that_occurs_in_no_row_is_told(both: dict[bool, Prepared]):
    line = "in no row: features.gender.map.Fem.: correct these values, or leave them out"
    assert line in findings(both[True].quality)
    assert line not in findings(both[True].quality, whole=False)


def test_a_column_that_is_mostly_lost_is_refused(tmp_path: Path):
    log, items = frames(raw=True)
    log.loc[5:, "fee"] = "n. a."
    ours = experiment(tmp_path, log, items)
    message = r"features.fee.format: 195 of 200 cells of the column `fee` .* 'n. a.' \(log.csv row 6\), .*row 8\); corr"
    for look in (prepare, plan):
        with pytest.raises(InputError, match=message):
            look(ours)


@pytest.fixture(scope="module")
def scorer(both: dict[bool, Prepared], tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A model with random weights, of the raw cells."""
    folder, prepared = tmp_path_factory.mktemp("model"), both[True]
    ours = experiment(folder, *frames(raw=True))
    torch.manual_seed(0)
    checkpoint.save(folder / "c", ours, prepared.schema, build_model(ours, prepared.schema), {})
    prepared.folder.copy_to(VOCABULARY, folder / "c" / VOCABULARY)
    return Scorer(folder / "c")


def test_a_raw_row_scores_as_a_clean_one(both: dict[bool, Prepared], scorer: Scorer):
    raw, clean = (pq.read_table(f"{both[raw].folder.path}/raw_test") for raw in (True, False))
    expected = scorer.score(clean)
    for task, scores in scorer.score(raw).items():
        np.testing.assert_array_equal(scores, expected[task])


def test_a_row_without_a_time_is_of_now(both: dict[bool, Prepared], scorer: Scorer, monkeypatch: pytest.MonkeyPatch):
    rows = pq.read_table(f"{both[True].folder.path}/raw_test").slice(0, 1)
    assert "ts" in scorer.input_columns()
    (time,) = rows["ts"].to_pylist()
    monkeypatch.setattr("mtl_ray.features.date.time.time", pd.to_datetime(time, dayfirst=True).timestamp)
    now = scorer.score(rows.drop_columns(["ts"]))
    for task, scores in scorer.score(rows).items():
        np.testing.assert_array_equal(scores, now[task])
    monkeypatch.setattr("mtl_ray.features.date.time.time", lambda: 1.9e9)
    assert scorer.score(rows.drop_columns(["ts"]))["mood"] != pytest.approx(now["mood"])
