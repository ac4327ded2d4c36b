"""The first pass: which partition a row goes to, what is counted, how bad rows are described."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.config import parse
from mtl_ray.data.preparation import stage
from mtl_ray.data.preparation.partition import SideTable, partition_of
from mtl_ray.data.preparation.split import Cuts
from mtl_ray.data.preparation.stage import Stage, describe, quarantined
from mtl_ray.storage import Folder
from mtl_ray.values.partition import TEST, TIME, TRAIN, USER

TREE: dict[str, Any] = {
    "name": "shop",
    "data": {"source": {"kind": "table", "interactions": "log.csv"}, "time": "time", "bucket_rows": 30},
    "features": {"user": {"kind": "id", "entity": "user"}, "item": {"kind": "id", "entity": "item"}},
    "tasks": {"rating": {"kind": "regression", "range": [1, 5]}},
}
COLUMNS = ["user", "item", "time", "rating"]


@dataclass
class Rows:
    """Tables of a file, with the number of their first row."""

    file: str
    tables: list[pa.Table]
    first: int = 1

    def read(self):
        first = self.first
        for table in self.tables:
            yield first, table
            first += len(table)


def log(number: int, start: int = 0, **changes: list) -> pa.Table:
    rows = range(start, start + number)
    whole = {"user": [f"u{row % 17}" for row in rows], "item": [f"i{row}" for row in rows], "time": list(rows)}
    return pa.table({**whole, "rating": [float(1 + row % 5) for row in rows], "note": ["x"] * number, **changes})


def staged(folder: Path, chunks: list[Rows], num_partitions: int = 4, **data: Any) -> tuple[dict, list[pa.Table]]:
    experiment = parse({**TREE, "data": {**TREE["data"], **data}}, "test")
    counts = Stage(experiment, COLUMNS, num_partitions, Folder(str(folder)))(0, chunks)
    parts = [
        pa.concat_tables(
            [
                Folder(str(place.parent)).read_table(place.name)
                for place in sorted(folder.glob(f"staging/{number:05d}/*"))
            ]
        )
        for number in range(num_partitions)
        if (folder / f"staging/{number:05d}").exists()
    ]
    return counts, parts


def test_all_rows_of_a_user_are_in_one_partition_in_the_order_of_the_log(tmp_path: Path):
    chunks = [Rows("a", [log(40), log(25, 40)]), Rows("b", [log(35, 65)])]
    counts, parts = staged(tmp_path, chunks)
    assert counts["rows"] == sum(map(len, parts)) == 100
    assert 1 < len(parts) <= 4
    users = [set(part[USER].to_pylist()) for part in parts]
    assert sum(map(len, users)) == 17 == len(set().union(*users))
    rows = [(f, r) for part in parts for f, r in zip(part["_file"].to_pylist(), part["_row"].to_pylist(), strict=True)]
    assert Counter(rows) == Counter([("a", row) for row in range(1, 66)] + [("b", row) for row in range(1, 36)])
    for part in parts:
        assert (np.diff(part[TIME].to_numpy()) > 0).all()


def test_rows_are_in_the_order_of_the_log_however_often_files_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    chunks = [Rows("a", [log(35, start) for start in range(0, 210, 35)])]  # a deal each
    whole, expected = staged(tmp_path / "whole", chunks)
    monkeypatch.setattr(stage, "DEALS_PER_FILE", 2)
    counts, parts = staged(tmp_path / "parts", chunks)
    assert counts == whole
    assert [part.to_pylist() for part in parts] == [part.to_pylist() for part in expected]
    assert {path.name for path in tmp_path.glob("parts/staging/*/*")} == {f"000000-000{n}.parquet" for n in range(3)}


def test_times_are_counted_from_the_first_to_the_last_as_numbers_or_dates(tmp_path: Path):
    counts, _ = staged(tmp_path / "numbers", [Rows("a", [log(7, 3), log(5, 20)])])
    assert (counts["low"], counts["high"], counts["dates"], counts["numbers"]) == (3, 24, 0, 12)
    dates = [f"2024-01-0{day}" for day in (3, 1, 2)]
    counts, _ = staged(tmp_path / "dates", [Rows("a", [log(3, time=dates)])])
    assert (counts["dates"], counts["numbers"]) == (3, 0)
    assert counts["high"] - counts["low"] == 2 * 86_400


def test_bad_rows_are_counted_by_reason_and_the_first_five_are_described(tmp_path: Path):
    ratings = [9.0, 1.0, 8.0, None, 7.0]
    chunks = [Rows("a", [log(5, rating=ratings)] * 2, first=11), Rows("b", [log(5, user=[None, *"uvwx"])])]
    counts, parts = staged(tmp_path, chunks)
    assert counts["reasons"] == {"rating is outside [1, 5]": 6, "user is null": 1}
    assert counts["examples"] == [f"a row {row}: rating is outside [1, 5]" for row in (11, 13, 15, 16, 18)]
    assert counts["rows"] == 15
    assert sum(map(len, parts)) == 8
    assert counts["numbers"] == 8
    kept = Folder(str(tmp_path / "quarantine")).read_table("000000.parquet")
    assert kept["row"].to_pylist() == [11, 13, 15, 16, 18, 20, 1]
    assert kept["rating"].to_pylist()[:2] == ["9", "8"]


def test_unread_columns_count_where_repeats_are_exact_alone(tmp_path: Path):
    _, exact = staged(tmp_path / "exact", [Rows("a", [log(3)])], num_partitions=1)
    _, first = staged(tmp_path / "first", [Rows("a", [log(3)])], num_partitions=1, repeats="first")
    assert "_others" in exact[0].column_names
    assert "_others" not in first[0].column_names


def test_a_log_without_time_is_at_one_instant(tmp_path: Path):
    counts, parts = staged(tmp_path, [Rows("a", [log(3)])], num_partitions=1, time=None)
    assert parts[0][TIME].to_pylist() == [0.0] * 3
    assert counts["dates"] == 0


def test_names_of_the_log_stand_beside_reason_file_and_row():
    table = pa.table({"reason": ["r"], "file": [1], "raw.file": [2.5], "tags": [[1, 2]]})
    found = quarantined(table, pa.array(["bad"]), "log", np.array([7]))
    assert found.to_pylist() == [
        {
            **{"reason": "bad", "file": "log", "row": 7, "raw.reason": "r", "raw.file": "1"},
            **{"raw.raw.file": "2.5", "tags": "[1, 2]"},
        }
    ]
    assert describe(pa.concat_tables([found] * 3), 2) == ["log row 7: bad"] * 2


def test_a_partition_is_in_time_order_without_repeats_and_with_what_is_joined(tmp_path: Path):
    rows = log(6, time=[5, 3, 3, 9, 1, 3], user=["u", "u", "u", "v", "v", "u"], item=list("abbcdb"), rating=[1.0] * 6)
    _, (part,) = staged(tmp_path, [Rows("a", [rows])], num_partitions=1)
    side = SideTable.of(pa.table({"user": ["v", "w"], "city": ["Rome", "Bonn"]}), "user", {"city": "city"})
    experiment = parse({**TREE, "data": {**TREE["data"], "split": {"kind": "time", "test_from": 5}}}, "test")
    found = partition_of(experiment, part, side, None, Cuts((5, 5)))
    assert found.table[TIME].to_pylist() == [1, 3, 5, 9]
    assert found.table["item"].to_pylist() == list("dbac")
    assert found.table["city"].to_pylist() == ["Rome", None, None, "Rome"]
    assert found.split.tolist() == [TRAIN, TRAIN, TEST, TEST]
    assert found.unknown == {"user not in the users table": 2}
    assert found.duplicates["row"].to_pylist() == [3, 6]
    assert set(found.duplicates["reason"].to_pylist()) == {"repeats an earlier row"}
    assert len(set(found.draw)) == 4


@pytest.mark.parametrize("encode", [False, True])
def test_a_side_table_gives_the_row_of_each_key_and_a_null_row_for_others(encode: bool):
    city = pa.array(["Rome", None])
    table = pa.table({"user": ["v", "w"], "city": city.dictionary_encode() if encode else city})
    side = SideTable.of(table, "user", {"city": "city"})
    assert side.positions(pa.array(["w", "x", "v", "w"])).tolist() == [1, 2, 0, 1]
    assert side.table["city"].to_pylist() == ["Rome", None, None]
    alone = SideTable.of(table.select(["user"]), "user", {})
    assert alone.positions(pa.array(["x", "v"])).tolist() == [2, 0]
