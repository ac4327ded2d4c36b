"""A log in memory is prepared as the same rows in a file are."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

import mtl_ray as mtl
from mtl_ray.data.preparation import parallel
from mtl_ray.data.sources import memory

SPLITS = {"random": {"valid": 0.1, "test": 0.2}, "time": {"test_from": 240}, "cold": {"test_items": 0.2}}


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    random, size = np.random.default_rng(0), 300
    log = pd.DataFrame(
        {
            "user": [f"u{number}" for number in random.integers(20, size=size)],
            "item": random.integers(30, size=size),
            "time": np.arange(size),
            "device": pd.Categorical(random.choice(["phone", "tablet"], size)),
            "rating": random.integers(1, 6, size).astype(float),
        }
    )
    log.loc[7, "rating"] = 9  # a bad row
    log.loc[50] = log.loc[49]  # a repeat
    log.loc[[100, 120], "rating"] = np.nan
    return log


USERS = pd.DataFrame({"user": [f"u{number}" for number in range(18)], "age": [20.0, None, 31] * 6})
ITEMS = pd.DataFrame({"item": range(30), "tags": [["a", "b"], ["c"], []] * 10})


def experiment(folder: Path, source: Any = "memory", split: str = "time") -> mtl.Experiment:
    return mtl.Experiment(
        name="shop",
        data={
            "source": source,
            "time": "time",
            "split": {"kind": split, **SPLITS[split]},
            "max_bad_share": 0.1,
            "bucket_rows": 100,
            "output": str(folder),
        },
        features={
            "user": {"kind": "id", "entity": "user"},
            "item": {"kind": "id", "entity": "item"},
            "age": {"kind": "numeric", "entity": "user"},
            "tags": {"kind": "multi_categorical", "entity": "item"},
            "device": {"kind": "categorical"},
            "history": {"kind": "sequence", "of": "item", "max_length": 3},
        },
        tasks={"rating": {"kind": "regression", "range": [1, 5]}},
        training={"early_stopping": None},
    )


def prepared(folder: Path, log: Any, split: str = "time") -> mtl.Prepared:
    return mtl.prepare(experiment(folder, split=split), interactions=log, users=USERS, items=ITEMS)


def content_of(data: mtl.Prepared) -> dict[str, Any]:
    """The content of all files but the schema, which has the fingerprint: bytes of those that training reads; rows of
    the raw ones, whose types are those of the library that made the log."""
    folder = Path(data.folder.path)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    raw = [name for name in names if name.startswith(("raw_test/", "quarantine/", "items.parquet"))]
    rows = {name: pq.ParquetFile(folder / name).read().to_pylist() for name in raw}
    return rows | {name: (folder / name).read_bytes() for name in {*names} - {*raw, "schema.json"}}


@pytest.mark.parametrize("split", SPLITS)
def test_it_is_the_data_set_of_a_file_of_its_name(tmp_path: Path, log: pd.DataFrame, split: str):
    for name, table in (("interactions", log), ("users.parquet", USERS), ("items.parquet", ITEMS)):
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), tmp_path / name, row_group_size=70)
    places = {name: str(tmp_path / file) for name, file in (("users", "users.parquet"), ("items", "items.parquet"))}
    source = {"kind": "table", "interactions": str(tmp_path / "interactions"), **places}
    of_files = mtl.prepare(experiment(tmp_path / "files", source, split))
    of_frames = prepared(tmp_path / "frames", log, split)
    assert of_frames.quality == of_files.quality
    assert of_frames.quality["bad"] == 2
    assert content_of(of_frames) == content_of(of_files)
    assert of_frames.schema.content_hash == of_files.schema.content_hash


class Foreign:
    """A frame of a library that this package does not know, such as polars."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def as_polars_gives_it(table: pa.Table) -> Foreign:
    """A table with the types in which polars hands out texts, categories and lists of texts."""
    text = pa.string_view()

    def changed(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_dictionary(column.type):
            parts = [(part.indices.cast(pa.uint32()), part.dictionary.cast(text)) for part in column.chunks]
            return pa.chunked_array([pa.DictionaryArray.from_arrays(*part) for part in parts])
        if pa.types.is_list(column.type):
            return column.cast(pa.large_list(pa.large_string())).cast(pa.large_list(text))
        return column.cast(text) if pa.types.is_string(column.type) else column

    return Foreign(pa.table({name: changed(table[name]) for name in table.column_names}))


def test_a_polars_frame_is_the_same_data_set(tmp_path: Path, log: pd.DataFrame):
    """polars itself is no dependency: a stand-in has its types and its interface."""
    frames = {"interactions": log, "users": USERS, "items": ITEMS}
    polars = {name: as_polars_gives_it(pa.Table.from_pandas(frame)) for name, frame in frames.items()}
    first = mtl.prepare(experiment(tmp_path), **frames)
    again = mtl.prepare(experiment(tmp_path), **polars)
    assert again.reused
    assert again.schema == first.schema
    anew = mtl.prepare(experiment(tmp_path / "anew"), **polars)
    assert content_of(anew) == content_of(first)


def test_the_same_rows_in_another_library_are_the_same_data_set(tmp_path: Path, log: pd.DataFrame):
    first = prepared(tmp_path, log)
    assert not first.reused
    table = pa.Table.from_pandas(log, preserve_index=False)
    texts = [
        field.with_type(pa.large_string()) if field.name in ("user", "device") else field for field in table.schema
    ]
    views = [field.with_type(pa.string_view()) if field.name == "user" else field for field in table.schema]
    parts = pa.concat_tables([table.slice(0, 90), table.slice(90)])
    others = (log.set_index("time", drop=False), table, parts, Foreign(table), table.cast(pa.schema(texts)))
    for other in (*others, table.cast(pa.schema(views))):
        again = prepared(tmp_path, other)
        assert again.reused
        assert again.schema == first.schema


def test_other_rows_are_another_data_set(tmp_path: Path, log: pd.DataFrame):
    first = prepared(tmp_path, log)
    swapped = log.iloc[[1, 0, *range(2, len(log))]]
    for other in (swapped, log.assign(rating=log.rating.replace(2, 1)), log.iloc[:-1], log.assign(more=1)):
        assert prepared(tmp_path, other).schema.fingerprint != first.schema.fingerprint
    without = mtl.prepare(experiment(tmp_path), interactions=log, users=USERS.iloc[:-1], items=ITEMS)
    assert without.schema.fingerprint != first.schema.fingerprint


def test_the_fingerprint_does_not_depend_on_pieces(log: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    whole = memory.open_source(log)
    monkeypatch.setattr(memory, "ROWS_PER_CHUNK", 70)
    monkeypatch.setattr(memory, "ROWS_PER_TABLE", 30)
    parts = memory.open_source(log)
    assert (len(whole.chunks), len(parts.chunks)) == (1, 5)
    assert parts.fingerprint == whole.fingerprint
    assert [first for chunk in parts.chunks for first, _ in chunk.read()][:5] == [1, 31, 61, 71, 101]


def test_where_ray_prepares_the_files_are_the_same(
    local_ray, tmp_path: Path, log: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    here = prepared(tmp_path / "here", log)
    monkeypatch.setattr(parallel, "IN_PROCESS_ROWS", 0)
    monkeypatch.setattr(memory, "ROWS_PER_CHUNK", 70)
    blocks = ray.data.from_arrow([pa.Table.from_pandas(log[start : start + 80], preserve_index=False) for start in
                                  range(0, len(log), 80)])  # fmt: skip
    for name, frame in (("frame", log), ("blocks", blocks)):
        spread = prepared(tmp_path / name, frame)
        assert not spread.reused
        assert spread.schema == here.schema
        assert spread.quality == here.quality
        assert content_of(spread) == content_of(here)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"^data.source: `memory` stands for frames .* mtl_ray.train\(experiment, interactions=...\)"),
        ({"interactions": [1, 2]}, "interactions: expected a frame of pandas or polars, or an Arrow table; found list"),
        ({"interactions": USERS.iloc[:0]}, "interactions: expected a log of at least one row, found none"),
        ({"interactions": USERS}, "features.item: expected a column `item`"),
        (
            {"interactions": pd.concat([ITEMS, ITEMS, USERS], axis=1)},
            "features.item: expected one column `item`; the log has several of that name",
        ),
    ],
)
def test_what_is_missing_is_told_in_one_line(tmp_path: Path, given: dict[str, Any], message: str):
    with pytest.raises(mtl.InputError, match=message):
        mtl.prepare(experiment(tmp_path), **given)


def test_frames_beside_another_source_are_refused(tmp_path: Path, log: pd.DataFrame):
    with pytest.raises(mtl.InputError, match=r"interactions: expected no frames beside `data.source: synthetic`"):
        mtl.prepare(experiment(tmp_path, "synthetic"), interactions=log)


def test_the_command_line_names_the_function(tmp_path: Path):
    file = tmp_path / "shop.yaml"
    file.write_text(experiment(tmp_path).model_dump_json(exclude_unset=True))
    command = [sys.executable, "-m", "mtl_ray.cli", "prepare", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "mtl_ray.train(experiment, interactions=...)" in done.stderr
