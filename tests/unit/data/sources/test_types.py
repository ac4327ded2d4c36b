"""Files of one log whose types differ: each value keeps its meaning, whichever file comes first."""

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.data.sources.files import open_log, read_table
from mtl_ray.errors import InputError

UUID = uuid.UUID(int=7)
DAY = datetime(2026, 1, 2)
PAIRS = {
    "whole and fraction": ([1, None], [4.5], [1.0, None, 4.5]),
    "whole and text": ([7], ["007"], ["7", "007"]),
    "fraction and text": ([7.0, 2.5], ["007"], ["7", "2.5", "007"]),
    "nothing and text": ([None], ["tv"], [None, "tv"]),
    "nothing and number": ([None], [4.5], [None, 4.5]),
    "small and large": (pa.array([1], pa.int8()), pa.array([2**40]), [1, 2**40]),
    "sign and none": (pa.array([200], pa.uint8()), pa.array([-5], pa.int8()), [200, -5]),
    "beyond 2^63 and below 0": (
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([-5, None], pa.int32()),
        [2**64 - 1, -5, None],
    ),
    "bytes and text": ([b"ab", b"\xff"], ["x"], ["ab", "ff", "x"]),
    "UUIDs and text": (
        pa.array([uuid.UUID(int=7).bytes], pa.binary(16)),
        ["x"],
        ["00000000-0000-0000-0000-000000000007", "x"],
    ),
    "decimal and whole": ([Decimal("1.50")], [2], [Decimal("1.50"), Decimal("2.00")]),
    "true and whole": ([True], [0], [1, 0]),
    "date and instant": ([date(2026, 1, 2)], pa.array([DAY], pa.timestamp("us")), [DAY, DAY]),
    "seconds and milliseconds": (pa.array([DAY], pa.timestamp("s")), pa.array([DAY], pa.timestamp("ms")), [DAY, DAY]),
    "with and without zone": (
        pa.array([DAY], pa.timestamp("us", "Europe/Paris")),
        pa.array([DAY], pa.timestamp("us")),
        [DAY.replace(tzinfo=UTC), DAY.replace(tzinfo=UTC)],
    ),
    "dictionary and text": (pa.array(["a", None]).dictionary_encode(), ["b"], ["a", None, "b"]),
    "dictionary of numbers and text": (pa.array([7]).dictionary_encode(), ["b"], ["7", "b"]),
    "text and view": (["a"], pa.array(["b"], pa.string_view()), ["a", "b"]),
    "lists": ([[1, 2]], [[0.5]], [[1.0, 2.0], [0.5]]),
    "lists of fixed size": (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), [[0.5]], [[1.0, 2.0], [0.5]]),
    "lists of nothing": ([[], [None]], [["a"]], [[], [None], ["a"]]),
}


def write(folder: Path, *columns) -> None:
    for number, column in enumerate(columns):
        pq.write_table(pa.table({"a": column}), folder / f"{number}.parquet", store_schema=True)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
def test_values_mean_the_same_in_the_common_type(tmp_path: Path, pair: str, swapped: bool):
    first, second, expected = PAIRS[pair]
    write(tmp_path, *((second, first) if swapped else (first, second)))
    tables = [table for chunk in open_log(str(tmp_path)).chunks for _, table in chunk.read()]
    assert all(table.schema == tables[0].schema for table in tables)
    values = read_table(str(tmp_path)).column("a").to_pylist()
    length = len(second)
    assert (values[length:] + values[:length] if swapped else values) == expected


@pytest.mark.parametrize("columns", list(permutations([[1], [2.5], ["x"]])))
def test_the_order_of_three_files_does_not_matter(tmp_path: Path, columns):
    write(tmp_path, *columns)
    assert set(read_table(str(tmp_path)).column("a").to_pylist()) == {"1", "2.5", "x"}


def test_types_without_a_common_one_are_an_input_error_that_names_files(tmp_path: Path):
    write(tmp_path, [1], [[1]])
    with pytest.raises(InputError, match=r"column `a`: expected types that go together, found int64 in .*0\.parquet;"):
        open_log(str(tmp_path))


def test_a_number_that_the_common_type_would_change_is_named(tmp_path: Path):
    write(tmp_path, [2**60 + 1], [0.5])
    with pytest.raises(InputError, match=r"0\.parquet, rows from 1, column `a`: expected int64 that fits double"):
        read_table(str(tmp_path))


def test_files_of_one_type_are_read_as_they_are(tmp_path: Path):
    write(tmp_path, pa.array([1], pa.int8()), pa.array([2], pa.int8()))
    assert read_table(str(tmp_path)).schema.field("a").type == pa.int8()
