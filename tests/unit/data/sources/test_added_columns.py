"""Columns that the settings add to a log: ids of rows, and what all rows share."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtl_ray.config import parse
from mtl_ray.data.sources import open_source
from mtl_ray.errors import InputError

LOG = pa.table({"age": [31, 52, 31], "income": ["low", "high", "low"]})


def experiment(**data: Any) -> Any:
    features = {name: {"kind": "id", "entity": name, "embed": False} for name in ("user", "item")}
    features["age"] = {"kind": "numeric", "entity": "user"}
    tree = {"name": "people", "data": {"source": "memory", **data}, "features": features}
    return parse({**tree, "tasks": {"income": {"kind": "binary", "positive": "high"}}}, "test")


def test_each_row_gets_an_id_of_its_own_and_all_the_same_constant():
    raw = open_source(experiment(row_id="user", constants={"item": "all"}), LOG)
    (rows,) = [table for chunk in raw.chunks for _, table in chunk.read()]
    assert list(raw.columns) == rows.column_names == ["age", "income", "user", "item"]
    assert rows.column("user").to_pylist() == ["interactions:1", "interactions:2", "interactions:3"]
    assert rows.column("item").to_pylist() == ["all"] * 3


def test_a_file_gives_the_same_ids_however_it_is_cut(tmp_path: Path):
    text = "age,income\n" + "".join(f"{age},low\n" for age in range(5))
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(text)
    source = {"kind": "table", "interactions": str(tmp_path)}
    raw = open_source(experiment(source=source, row_id="user", constants={"item": 0}))
    ids = [key for chunk in raw.chunks for _, table in chunk.read() for key in table.column("user").to_pylist()]
    assert ids == [f"{name}:{row}" for name in ("a.csv", "b.csv") for row in range(1, 6)]


def test_a_name_that_the_log_has_is_refused():
    with pytest.raises(InputError, match=r"data.row_id: expected the name of a new column; the log has .* `age`"):
        open_source(experiment(row_id="age", constants={"item": 0}), LOG)
    with pytest.raises(InputError, match="expected another column than `row_id`; found `user` in both"):
        experiment(row_id="user", constants={"user": 0})
