"""A value means the same whatever type and source it comes from, and whatever stands beside it."""

import io
import json
import math
import unicodedata
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_ray.config.data import NULL_WORDS
from mtl_ray.data.preparation.row_checks import clean_table
from mtl_ray.errors import InputError
from mtl_ray.values.booleans import equals, parse_booleans
from mtl_ray.values.canonical import decoded, from_cells, plain
from mtl_ray.values.columns import raw_values
from mtl_ray.values.keys import to_keys
from mtl_ray.values.lists import to_lists
from mtl_ray.values.numbers import parse_numbers, to_numbers
from mtl_ray.values.times import parse_times
from mtl_ray.values.vocabulary import Vocabulary
from tests.support import small_experiment

QUICK = settings(max_examples=20)
Source = Callable[[list[Any]], pa.Array]


def column_of_parquet(array: pa.Array) -> pa.Array:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": array}), buffer)
    return plain(pq.read_table(buffer).column("x"))


def column_of_csv(values: list[Any]) -> pa.Array:
    text = pd.DataFrame({"x": values, "y": 1}).to_csv(index=False)
    options = pacsv.ConvertOptions(column_types={"x": pa.string()}, strings_can_be_null=True, null_values=[""])
    return plain(pacsv.read_csv(io.BytesIO(text.encode()), convert_options=options).column("x"))


ANY_SOURCE: dict[str, Source] = {
    "arrow": pa.array,
    "parquet": lambda values: column_of_parquet(pa.array(values)),
    "csv": column_of_csv,
    "json": lambda values: from_cells(json.loads(json.dumps(values))),
    "frame": lambda values: pa.array(pd.Series(values), from_pandas=True),
    "dictionary": lambda values: pa.array(values).dictionary_encode(),
}
TEXT_SOURCES: dict[str, Source] = {
    "text": lambda values: pa.array(values, pa.string()),
    "large text": lambda values: pa.array(values, pa.large_string()),
    "text view": lambda values: pa.array(values, pa.string_view()),
    "binary": lambda values: pa.array([None if v is None else v.encode() for v in values], pa.binary()),
    "binary view": lambda values: pa.array([None if v is None else v.encode() for v in values], pa.binary_view()),
}
INTEGER_SOURCES: dict[str, Source] = {
    "float": lambda values: pa.array(values, pa.float64()),
    "decimal": lambda values: pa.array([None if v is None else Decimal(v) for v in values], pa.decimal128(38, 4)),
    "beside text": lambda values: from_cells([*values, "x"])[:-1],
    "text of floats": lambda values: pa.array([None if v is None else repr(float(v)) for v in values], pa.string()),
}

exact_integers = st.integers(-(2**53), 2**53)
words = st.text("abcé é0123456789 -_", min_size=1, max_size=8).filter(lambda t: t.strip() and "e-" not in t)


@pytest.mark.parametrize("source", [*ANY_SOURCE, *INTEGER_SOURCES])
@QUICK
@given(values=st.lists(exact_integers | st.none(), min_size=1, max_size=5))
def test_an_integer_id_has_one_key_in_every_type_and_source(source: str, values: list[int | None]):
    array = {**ANY_SOURCE, **INTEGER_SOURCES}[source](values)
    assert to_keys(array).to_pylist() == [None if v is None else str(v) for v in values]


@QUICK
@given(values=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
def test_an_integer_of_64_bits_keeps_all_digits(values: list[int]):
    expected = [str(value) for value in values]
    assert to_keys(pa.array(values, pa.uint64())).to_pylist() == expected
    assert to_keys(from_cells(values)).to_pylist() == expected
    assert to_keys(pa.array([Decimal(v) for v in values], pa.decimal128(20, 0))).to_pylist() == expected


@pytest.mark.parametrize("source", [*ANY_SOURCE, "text view"])
@QUICK
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_a_fraction_has_one_key_in_every_type_and_source(source: str, values: list[float]):
    array = (
        pa.array([repr(v) for v in values], pa.string_view()) if source == "text view" else ANY_SOURCE[source](values)
    )
    keys = to_keys(array).to_pylist()
    assert keys == to_keys(pa.array(values)).to_pylist()
    assert [float(key) for key in keys] == values
    assert not any("e" in key or key.endswith(".") for key in keys)


@pytest.mark.parametrize("source", TEXT_SOURCES)
@QUICK
@given(values=st.lists(words | st.none(), min_size=1, max_size=5))
def test_a_text_has_one_key_in_every_type_and_composition(source: str, values: list[str | None]):
    expected = to_keys(pa.array(values, pa.string())).to_pylist()
    for form in ("NFC", "NFD"):
        composed = [None if v is None else unicodedata.normalize(form, v) for v in values]
        assert to_keys(TEXT_SOURCES[source](composed)).to_pylist() == expected
        lists = plain(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), TEXT_SOURCES[source](composed)))
        assert to_lists(lists, "|").to_pylist() == [[key for key in expected if key is not None]]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_whole_float_has_all_its_digits_on_both_sides_of_64_bits(sign: int):
    values = [sign * float(value) for value in (2**62, 2**63 - 1024, 2**63, 2**63 + 2048, 10**20, 3 * 10**29)]
    assert to_keys(pa.array(values)).to_pylist() == [str(int(value)) for value in values]


@QUICK
@given(value=st.uuids())
def test_a_uuid_is_its_text_in_every_type(value: uuid.UUID):
    columns = [
        pa.array([value.bytes], pa.binary(16)),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([value.bytes], pa.binary(16))),
        from_cells([value]),
        from_cells([value, "x"])[:1],
        pa.array([str(value)]),
    ]
    assert {to_keys(column)[0].as_py() for column in columns} == {str(value)}


MIXED = "1,1.0,007,true,True,no,nan,NaN,-nan,NULL,n/a,-,, 5 ,+5,inf,x,Infinity,1e5,9e+10,-0.0,2024-05-01,nan(3),1e-7"
mixed_cells = st.sampled_from([*MIXED.split(","), "1,5", "2024-05-01T10:00Z", "e\u0301", "0x1f"])


@QUICK
@given(cells=st.lists(mixed_cells | st.none(), min_size=1, max_size=6))
def test_a_cell_does_not_depend_on_its_neighbours(cells: list[str | None]):
    whole, each = pa.array(cells, pa.string()), [pa.array([cell], pa.string()) for cell in cells]
    assert to_keys(whole).to_pylist() == [to_keys(one)[0].as_py() for one in each]
    for read in (parse_numbers, parse_booleans, parse_times):
        together, alone = read(whole), [read(one) for one in each]
        for place, column in enumerate(together):
            np.testing.assert_array_equal(column, [result[place][0] for result in alone])


json_cells = st.sampled_from([True, False, 1, 0, 1.0, 2.5, "1", "true", "x", None, 90_000_000_001, 9e10, 2**64 - 1])


@QUICK
@given(cells=st.lists(json_cells, min_size=1, max_size=6))
def test_a_value_of_a_request_does_not_depend_on_its_neighbours(cells: list[Any]):
    assert to_keys(from_cells(cells)).to_pylist() == [to_keys(from_cells([cell]))[0].as_py() for cell in cells]
    nested = to_lists(from_cells([cells]), "|").to_pylist()[0]
    assert nested == [key for key in to_keys(from_cells(cells)).to_pylist() if key is not None]


@QUICK
@given(cells=st.lists(mixed_cells, min_size=1, max_size=6))
def test_the_key_of_a_key_is_itself(cells: list[str]):
    keys = to_keys(pa.array(cells))
    assert to_keys(keys).equals(keys)


@pytest.mark.parametrize("source", [*ANY_SOURCE, *INTEGER_SOURCES])
@QUICK
@given(values=st.lists(exact_integers | st.none(), min_size=1, max_size=5))
def test_a_number_is_the_same_in_every_type_and_source(source: str, values: list[int | None]):
    array = {**ANY_SOURCE, **INTEGER_SOURCES}[source](values)
    np.testing.assert_array_equal(to_numbers(array), [math.nan if v is None else v for v in values])


@QUICK
@given(values=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
def test_a_large_integer_is_rounded_to_the_next_float(values: list[int]):
    for array in (pa.array(values, pa.uint64()), pa.array([str(v) for v in values]), from_cells(values)):
        assert to_numbers(array).tolist() == [float(value) for value in values]


@pytest.mark.parametrize("word", NULL_WORDS)
def test_a_null_word_is_no_number_no_flag_and_no_time(word: str):
    cells = pa.array(["1", word, word.upper(), f" {word} "])
    for read in (parse_numbers, parse_booleans, parse_times):
        values, *flags = read(cells)
        assert np.isnan(values).tolist() == [False, True, True, True]
        assert not np.any(flags)
        assert read(cells, ())[-1].tolist() == [False, True, True, True]  # a setting can take the words away
    assert parse_numbers(pa.array([1.0, math.nan]))[1].tolist() == [False, False]


def test_dates_and_lists_are_no_numbers():
    for values in ([date(2024, 5, 1)], [datetime(2024, 5, 1)], [[1.0]], [{"a": 1}]):
        assert parse_numbers(pa.array(values))[1].tolist() == [True]
    with pytest.raises(InputError, match="age: expected numbers, found 'abc'"):
        to_numbers(pa.array(["1", "abc"]), column="age")


instants = st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))


@QUICK
@given(instant=instants, hours=st.integers(-12, 12))
def test_an_instant_is_the_same_in_every_unit_zone_and_notation(instant: datetime, hours: int):
    naive, there = instant.replace(tzinfo=None), instant.astimezone(timezone(timedelta(hours=hours)))
    columns = [
        pa.array([naive], pa.timestamp("us")),
        pa.array([naive]).cast(pa.timestamp("ns")),
        pa.array([instant], pa.timestamp("us", "Asia/Kolkata")),
        pa.array([str(naive), naive.isoformat(), f"{naive.isoformat()}Z", str(there), there.isoformat()]),
        pa.array([f"{naive} UTC", f" {naive.isoformat()} "], pa.string_view()),
        pa.array([naive.isoformat()]).dictionary_encode(),
    ]
    for column in columns:
        times, dates, wrong = parse_times(column)
        assert set(times.tolist()) == {(instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) / 1e6}
        assert dates.all()
        assert not wrong.any()


@QUICK
@given(day=st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_a_day_is_its_midnight(day: date):
    expected = float((day - date(1970, 1, 1)).days * 86_400)
    for column in (
        pa.array([day]),
        pa.array([day], pa.date64()),
        pa.array([day.isoformat()]),
        pa.array([datetime(day.year, day.month, day.day)], pa.timestamp("s")),
    ):
        assert parse_times(column)[0].tolist() == [expected]
        assert to_keys(column).to_pylist() == [day.isoformat()]


HOURS = ["", "T03", " 03", "T03:04", " 03:04:05", "T03:04:05.1", "T03:04:05,12", "T03:04:05.123456", "T24:00", "T0304"]
ZONES = ["", "Z", "z", "+02", "+02:30", "-1100", " UTC"]


@pytest.mark.parametrize(
    "day", ["2024-05-01", "2024-02-30", "0001-01-01", "9999-12-31", "2024", "20240501", "2024-5-1"]
)
def test_a_notation_of_a_time_is_read_alike_alone_and_beside_others(day: str):
    cells = [day + hour + zone for hour in HOURS for zone in ZONES]
    together = parse_times(pa.array([*cells, "x"]))
    for place, cell in enumerate(cells):
        np.testing.assert_array_equal([read[0] for read in parse_times(pa.array([cell]))], [r[place] for r in together])


def test_numbers_and_dates_of_a_time_column_are_told_apart():
    times, dates, wrong = parse_times(pa.array(["17", "2024-05-01", "2024-13-01", "later", None]))
    assert times[:2].tolist() == [17, 1714521600]
    assert dates.tolist() == [False, True, False, False, False]
    assert wrong.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False, None]),
        pa.array([1, 0, None], pa.int8()),
        pa.array([1.0, 0.0, math.nan]),
        pa.array(["true", "false", None]),
        pa.array(["True", "False", ""]),
        pa.array(["yes", "no", "nan"]),
        pa.array(["1", "0.0", "NULL"]),
        pa.array(["true", "false", None]).dictionary_encode(),
        from_cells([True, "0", None]),
    ],
    ids=str,
)
def test_true_is_true_however_it_is_written(column: pa.Array):
    flags, wrong = parse_booleans(column)
    np.testing.assert_array_equal(flags, [1, 0, math.nan])
    assert not wrong.any()
    assert equals(column, True).tolist() == [True, False, False]
    assert equals(column, False).tolist() == [False, True, False]


@pytest.mark.parametrize("setting", [True, "true", "True", 1, 1.0, "1"])
def test_a_flag_is_found_by_any_of_its_names(setting: bool | float | str):
    for column in (pa.array([True, False]), pa.array([1, 0]), pa.array(["True", "False"]), pa.array([1.0, 0.0])):
        assert equals(column, setting).tolist() == [True, False]
        assert to_keys(column).to_pylist() == ["1", "0"]


@pytest.mark.parametrize(
    ("column", "setting"),
    [
        (pa.array([90_000_000_001, 1]), 90_000_000_001),
        (pa.array([90_000_000_001.0, 1]), 90_000_000_001),
        (pa.array(["90000000001", "1"]), 90_000_000_001.0),
        (pa.array([1.5, 1]), 1.5),
        (pa.array([Decimal("1.50"), Decimal("1.00")]), 1.5),
        (pa.array(["e\u0301", "e"]), "é"),
        (pa.array([date(2024, 5, 1), date(2024, 5, 2)]), "2024-05-01"),
        (pa.array([datetime(2024, 5, 1, 10), None]), "2024-05-01 10:00:00"),
    ],
    ids=str,
)
def test_a_setting_finds_its_value_in_a_column_of_any_type(column: pa.Array, setting: float | str):
    assert equals(column, setting).tolist() == [True, False]


def test_words_keep_the_marks_of_their_letters():
    titles = pa.array(["नमस्ते दुनिया", "Cafe\u0301 true-crime", "ภาษาไทย", "مَرْحَبًا"])
    assert to_lists(titles).to_pylist() == [["नमस्ते", "दुनिया"], ["café", "true", "crime"], ["ภาษาไทย"], ["مَرْحَبًا"]]


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, pa.list_view, lambda t: pa.list_(t, 2)])
def test_lists_of_every_type_hold_the_same_entries(kind: Callable[[pa.DataType], pa.DataType]):
    for entries, values in ((pa.string_view(), ["a", "1"]), (pa.int8(), [1, 2]), (pa.float16(), [1.0, 2.5])):
        lists = pa.array([values, None, values], pa.list_(entries))
        expected = [[str(v).removesuffix(".0") for v in values], None, [str(v).removesuffix(".0") for v in values]]
        made = pa.array([values, None, values], kind(entries)) if kind is not pa.list_view else lists
        assert to_lists(made, "|").to_pylist() == expected
    entries = pa.array(["a", "b", "a", "a"]).dictionary_encode()
    view = pa.ListViewArray.from_arrays(pa.array([2, 0], pa.int32()), pa.array([2, 1], pa.int32()), entries)
    assert to_lists(view, "|").to_pylist() == [["a", "a"], ["a"]]


def test_a_list_that_is_written_out_is_that_list():
    texts = ['["g1", "g2"]', "['g1', 'g2']", "g1|g2", "[1, 2.0, true, null]", "[]", "[REC]|x", '[["g"]', None]
    expected = [["g1", "g2"], ["g1", "g2"], ["g1", "g2"], ["1", "2", "1"], [], ["[REC]", "x"], ['[["g"]'], None]
    assert to_lists(pa.array(texts), "|").to_pylist() == expected
    assert to_lists(pa.array(["['g1', 'g2']"])).to_pylist() == [["g1", "g2"]]


def test_a_column_that_nothing_reads_is_named():
    table = pa.table({"x": [{"a": 1}], "y": [[{"a": 1}]], "z": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8()))})
    for column in table.column_names:
        with pytest.raises(InputError, match=f"column `{column}`: expected numbers, texts, times, or lists of them"):
            raw_values(table, column)


def test_a_vocabulary_of_an_earlier_version_knows_values_by_their_keys_of_today():
    old = pa.array(["9.0000000001e+10", "true", "False", "True", "e\u0301", "x", "0"])
    vocabulary = Vocabulary(old, pa.array(range(7, 0, -1))).canonical(words=False)
    assert vocabulary.values.to_pylist() == ["90000000001", "1", "False", "True", "é", "x", "0"]
    same = Vocabulary(pa.array(["a", "true"]), pa.array([2, 1]))
    assert same.canonical(words=True) is same


def test_a_flag_of_a_side_table_that_is_none_counts_as_null():
    experiment = small_experiment(tasks__premium={"kind": "binary"})
    for flags in (pa.array(["yes", "perhaps", "NaN"]), pa.array(["yes", "perhaps", "NaN"]).dictionary_encode()):
        table, mended = clean_table(experiment, pa.table({"user_id": [1, 2, 3], "premium": flags}), "user_id", "users")
        assert mended == {"users.premium is not 0 or 1": 1}
        assert decoded(table.column("premium").combine_chunks()).to_pylist() == ["yes", None, "NaN"]
