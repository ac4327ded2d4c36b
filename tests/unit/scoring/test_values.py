"""A row is encoded alike whatever types its values have, by models of today and of before."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mtl_ray.config import parse
from mtl_ray.data.encoding import Encoder, texts
from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.errors import InputError
from mtl_ray.schema import FIRST, NULL, UNKNOWN, FittedFeature, FittedTask, Schema
from mtl_ray.scoring.protocol import read_rows
from mtl_ray.storage import Folder
from mtl_ray.values.canonical import from_cells
from mtl_ray.values.vocabulary import Vocabulary, read_vocabularies, write_vocabularies

USER = 90_000_000_001
TREE = {
    "name": "scored",
    "data": {"source": {"kind": "table", "interactions": "log.parquet"}},
    "features": {
        "user_id": {"kind": "id", "entity": "user"},
        "item_id": {"kind": "id", "entity": "item"},
        "vip": {"kind": "categorical", "entity": "user"},
        "age": "numeric",
        "title": {"kind": "text", "entity": "item"},
    },
    "tasks": {"click": "binary", "genre": "multiclass"},
}


def encoder(vocabularies: dict[str, Vocabulary], classes: tuple[str, ...] = ("0", "1")) -> Encoder:
    experiment = parse(TREE, "test")
    features = {name: FittedFeature(num_embeddings=9, mean=0.0, std=1.0) for name in experiment.features}
    tasks = {name: FittedTask(classes=classes) for name in experiment.tasks}
    parts = {"num_rows": {}, "train_offsets": (0,), "num_lanes": 1, "fingerprint": "", "content_hash": ""}
    return Encoder(experiment, Schema(features=features, tasks=tasks, **parts), vocabularies)


def vocabularies_of(**values: list[str]) -> dict[str, Vocabulary]:
    return {name: Vocabulary(pa.array(v), pa.array(range(len(v), 0, -1))) for name, v in values.items()}


TODAY = vocabularies_of(user_id=[str(USER)], item_id=["3"], vip=["1", "0"], title=["true", "1"])
CELLS = {"user_id": USER, "item_id": 3, "vip": True, "age": 30}
TYPES = {"vip": object}
ROWS = [
    {name: pa.array([cell]) for name, cell in CELLS.items()},
    {"user_id": pa.array([float(USER)]), "item_id": pa.array([3.0]), "vip": pa.array([1]), "age": pa.array([30.0])},
    {name: pa.array([str(cell)]) for name, cell in CELLS.items()},
    {name: pa.array([str(cell).lower()], pa.string_view()) for name, cell in CELLS.items()},
    {name: pa.array([str(cell)]).dictionary_encode() for name, cell in CELLS.items()},
    {name: pa.array([int(cell)]).cast(pa.decimal128(21, 2)) for name, cell in CELLS.items()},
    {name: from_cells([cell, "x"])[:1] for name, cell in CELLS.items()},
    {name: pa.array(pd.Series([cell, None], dtype=TYPES.get(name)))[:1] for name, cell in CELLS.items()},
]


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_a_row_is_encoded_alike_in_every_type(row: int):
    found = encoder(TODAY).features(pa.table(ROWS[row]))
    assert [found[name].tolist() for name in CELLS] == [[FIRST], [FIRST], [FIRST], [30.0]]


@pytest.mark.parametrize("beside", [True, 1, 1.0, "true", "x", None])
def test_a_value_of_a_request_does_not_depend_on_its_neighbours(beside: Any):
    records = [{"user_id": USER, "vip": vip, "age": 30} for vip in (True, beside)]
    table = read_rows(json.dumps({"dataframe_records": records}).encode())
    assert encoder(TODAY).features(table, ["vip"])["vip"][0] == FIRST
    assert bad_inputs(encoder(TODAY).experiment, table).null_count == 2


def test_a_model_of_before_knows_its_values(tmp_path):
    old = vocabularies_of(user_id=["9.0000000001e+10"], item_id=["3"], vip=["True", "False"], title=["true", "1"])
    write_vocabularies(Folder(str(tmp_path)), old)
    experiment = parse(TREE, "test")
    read = read_vocabularies(Folder(str(tmp_path)), list(experiment.features), texts(experiment))
    found = encoder({**read}, classes=("False", "True"))
    for row in ROWS:
        encoded = found.features(pa.table(row), ["user_id", "vip"])
        assert (encoded["user_id"].tolist(), encoded["vip"].tolist()) == ([FIRST], [FIRST])
    assert found.features(pa.table({"title": ["1 true story"]}), ["title"])["title"][0, :3].tolist() == [
        FIRST + 1,
        FIRST,
        UNKNOWN,
    ]
    assert found.label("genre", pa.table({"genre": [True, False, None]})).tolist() == [1, 0, -1]


def test_a_value_that_is_none_of_its_column_is_named():
    rows = pa.table({"user_id": [[1], None], "age": pa.array([pd.Timestamp("2024-05-01"), None])})
    assert bad_inputs(encoder(TODAY).experiment, rows).to_pylist() == ["user_id is a list, not a single value", None]
    assert bad_inputs(encoder(TODAY).experiment, rows.select(["age"])).to_pylist() == ["age is not a number", None]
    with pytest.raises(InputError, match="age: expected numbers, found 'old'"):
        encoder(TODAY).features(pa.table({"age": ["old"]}), ["age"])
    nulls = encoder(TODAY).features(pa.table({"age": ["n/a", "-", "NaN"], "vip": ["", " ", None]}), ["age", "vip"])
    assert np.isnan(nulls["age"]).all()
    assert nulls["vip"].tolist() == [NULL] * 3
