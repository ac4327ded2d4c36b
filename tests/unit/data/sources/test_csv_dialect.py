"""CSV of other dialects: by setting, or recognised with a line that says so; no row swallows others in silence."""

import warnings
from pathlib import Path

import pytest

from mtl_ray.config.data import DataConfig, TableSourceConfig
from mtl_ray.data.sources.csv_dialect import DEFAULT, Dialect
from mtl_ray.data.sources.csv_files import MALFORMED, CsvChunk
from mtl_ray.data.sources.files import open_log, read_table
from mtl_ray.data.sources.locate import File
from mtl_ray.data.sources.table import open_source
from mtl_ray.errors import InputError

ROWS = [{"user": "1", "title": "télé"}, {"user": "2", "title": None}]


def read(path: Path, content: bytes | str, dialect: Dialect = DEFAULT) -> list[dict]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    chunks = open_log(str(path), dialect=dialect).chunks
    return [row for chunk in chunks for _, table in chunk.read() for row in table.to_pylist()]


def values(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != MALFORMED} for row in rows]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_another_separator_is_recognised_and_told(tmp_path: Path, separator: str, quote: str):
    content = f"{quote}user{quote}{separator}title\n1{separator}télé\n2{separator}\n"
    told = rf"log\.csv: read with the separator {separator!r}".replace("|", r"\|").replace("\\t", r"\\t")
    with pytest.warns(UserWarning, match=told):
        assert values(read(tmp_path / "log.csv", content)) == ROWS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(read(tmp_path / "log.csv", content, Dialect(separator))) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_wide_encodings_are_recognised_and_told(tmp_path: Path, encoding: str):
    content = "user,title\n1,télé\n2,\n".encode(encoding)
    with pytest.warns(UserWarning, match=rf"log\.csv: read as {encoding.upper()}"):
        assert values(read(tmp_path / "log.csv", content)) == ROWS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(read(tmp_path / "log.csv", content, Dialect(encoding=encoding))) == ROWS


def test_latin_1_is_read_by_setting_and_the_setting_is_named(tmp_path: Path):
    content = "user,title\n1,télé\n2,\n".encode("latin-1")
    assert values(read(tmp_path / "log.csv", content, Dialect(encoding="latin-1"))) == ROWS
    with pytest.warns(UserWarning, match=r"has bytes that are not utf8, and rows with them are bad; .* latin-1"):
        assert [row[MALFORMED] for row in read(tmp_path / "log.csv", content)] == ["1,t\ufffdl\ufffd", None]


def test_a_mark_of_utf_8_is_no_part_of_the_first_name(tmp_path: Path):
    assert values(read(tmp_path / "log.csv", "user,title\n1,télé\n2,\n".encode("utf-8-sig"))) == ROWS


def test_numbers_with_a_decimal_comma_are_read_by_setting(tmp_path: Path):
    content = "user;age;title\n1;34,5;a, b\n2;-,5e3;1,2,3\n3;7; +1,0\n"
    assert [tuple(row.values())[:3] for row in read(tmp_path / "log.csv", content, Dialect(";", decimal=","))] == [
        ("1", "34.5", "a, b"),
        ("2", "-.5e3", "1,2,3"),
        ("3", "7", " +1.0"),
    ]


def test_quotes_are_text_by_setting(tmp_path: Path):
    rows = read(tmp_path / "log.tsv", 'user\ttitle\n1\t"a\n2\tb"\n', Dialect(quote=""))
    assert [row["title"] for row in rows] == ['"a', 'b"']
    assert values(read(tmp_path / "log.csv", "user,title\n1,'a,b'\n", Dialect(quote="'"))) == [
        {"user": "1", "title": "a,b"}
    ]


def test_escaped_quotes_are_read_by_setting_and_the_setting_is_named(tmp_path: Path):
    content = 'user,title\n1,"a \\"b\\", c\nd"\n2,x\n'
    rows = values(read(tmp_path / "log.csv", content, Dialect(escape="\\")))
    assert rows == [{"user": "1", "title": 'a "b", c\nd'}, {"user": "2", "title": "x"}]
    with pytest.warns(UserWarning, match=r"quotes after a backslash, and rows with them are bad; .* set `escape`"):
        assert any(row[MALFORMED] for row in read(tmp_path / "log.csv", content))
    assert values(read(tmp_path / "log.csv", 'user,title\n1,"C:\\"\n2,a\\"b\n'))[0]["title"] == "C:\\"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "lines",
    [
        ["1\t7\tgood", '2\t"x\tbad', "3\t5\tbad", '4\t"7\tbad', "5\t6\tgood"],  # both quotes begin a field
        ["1\t7\tgood", '2\t"x\tbad', "3\t5\tbad", '4\t7"\tbad', "5\t6\tgood"],  # the second one ends one
        ["1\t7\tgood", '2\t7\t"bad', "3\t5\tbad", '4\t7\tbad"', "5\t6\tgood"],  # in the last column
        ["1\t7\tgood", '2\t7\t"bad', '3\t"5\tbad', "5\t6\tgood"],  # in other columns
        ["1\t7\tgood", "5\t6\tgood", '2\t"7\tbad', "3\t5\tbad"],  # the second one never comes
        ["1\t7\tgood", '2\t"7\tbad', '3\t"5\tbad', "5\t6\tgood", '2\t"7\tbad', '3\t"5\tbad'],  # twice
    ],
    ids=["begin", "begin and end", "last column", "other columns", "unclosed", "twice"],
)
def test_each_row_between_stray_quotes_is_bad_and_keeps_its_number(tmp_path: Path, lines: list[str], end: str):
    path = tmp_path / "log.tsv"
    path.write_bytes(end.join(["user\titem\tnote", *lines, ""]).encode())
    chunk = CsvChunk(File(str(path)), "\t")
    rows = [(first + i, row) for first, table in chunk.read() for i, row in enumerate(table.to_pylist())]
    assert [number for number, _ in rows] == list(range(1, len(lines) + 1))
    assert [row[MALFORMED] is None for _, row in rows] == ["good" in line for line in lines]
    assert all(row["user"] == line[0] for (_, row), line in zip(rows, lines, strict=True) if "good" in line)
    bad = [row[MALFORMED].replace('"', "") for _, row in rows if row[MALFORMED]]
    assert bad == [line.replace('"', "") for line in lines if "good" not in line]


def test_a_table_of_two_columns_names_a_swallowed_row(tmp_path: Path):
    (tmp_path / "items.tsv").write_text('item\ttitle\n1\t"Good" Night\n2\t"Bad\n3\tB\n4\tBad"\n')
    with pytest.raises(InputError, match=r"items\.tsv, row 2: expected 2 fields of valid text, found `2\tBad`"):
        read_table(str(tmp_path / "items.tsv"))


@pytest.mark.parametrize(
    "text", ["one\ntwo", "a, b\nc, d", "a\n\nb", 'say ""a, b""\nc', "x\n" * 9, "a, b, c\nd", "a\r\nb"]
)
def test_text_of_several_lines_in_quotes_is_one_value(tmp_path: Path, text: str):
    rows = read(tmp_path / "log.csv", f'user,note,item\n1,"{text}",2\n3,x,4\n')
    assert [(row["user"], row["note"], row["item"], row[MALFORMED]) for row in rows] == [
        *(("1", text.replace('""', '"'), "2", None), ("3", "x", "4", None)),
    ]
    pairs = read(tmp_path / "items.csv", f'item,title\n1,"{text}"\n')
    assert [(row["item"], row["title"]) for row in pairs] == [("1", text.replace('""', '"'))]


def test_rows_are_swallowed_up_to_a_field_in_quotes_with_a_separator(tmp_path: Path):
    lines = ["1,good,2", '1,"bad,2', *["3,bad,4"] * 5, '4,5,"bad, and more"', "5,good,6"]
    rows = read(tmp_path / "log.csv", "\n".join(["user,note,item", *lines]))
    assert [row[MALFORMED] is None for row in rows] == ["good" in line for line in lines]


def test_a_dialect_is_part_of_the_fingerprint_and_its_absence_is_not(tmp_path: Path):
    (tmp_path / "log.csv").write_text("user,item\n1,2\n")

    def fingerprint(**settings: str) -> str:
        source = TableSourceConfig(interactions=f"{tmp_path}/log.csv", **settings)
        return open_source(source, DataConfig(source=source)).fingerprint

    assert fingerprint() == fingerprint(quote='"', decimal=".")
    assert len({fingerprint(), fingerprint(decimal=","), fingerprint(quote=""), fingerprint(encoding="latin-1")}) == 4


@pytest.mark.parametrize("setting", [{"separator": ";;"}, {"quote": "é"}, {"decimal": ";"}, {"encoding": "latin-99"}])
def test_settings_that_no_file_has_are_refused(setting: dict[str, str]):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TableSourceConfig(interactions="log.csv", **setting)
