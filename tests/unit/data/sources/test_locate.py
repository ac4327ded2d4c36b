"""Files of a log: all that hold rows are found, none is passed over in silence, tables of other formats are refused."""

import bz2
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.data.sources.files import fingerprint, open_log, read_table
from mtl_ray.data.sources.locate import File, find_files
from mtl_ray.errors import InputError


def write(path: Path, text: str = "user,item\n1,2\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    match path.suffix.lower():
        case ".gz":
            content = gzip.compress(content)
        case ".bz2":
            content = bz2.compress(content)
        case ".zst" | ".zstd" | ".lz4" | ".br":
            codec = {".zst": "zstd", ".zstd": "zstd", ".lz4": "lz4", ".br": "brotli"}[path.suffix.lower()]
            with pa.output_stream(path, compression=codec) as stream:
                stream.write(content)
            return path
    path.write_bytes(content)
    return path


def write_parquet(path: Path, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns or {"user": [1], "item": [2]}), path)
    return path


def names(path: Path) -> list[str]:
    return [file.path.removeprefix(f"{path}/") for file in find_files(str(path))]


def rows(path: Path) -> list[dict]:
    return [row for chunk in open_log(str(path)).chunks for _, table in chunk.read() for row in table.to_pylist()]


@pytest.mark.parametrize(
    "name", ["a.CSV", "a.csv.gz", "a.Csv.GZ", "a.csv.bz2", "a.csv.zst", "a.CSV.ZSTD", "a.csv.lz4", "a.csv.br"]
)
def test_text_of_any_compression_and_case_is_read(tmp_path: Path, name: str):
    write(tmp_path / name)
    write(tmp_path / "b.csv", "user,item\n3,4\n")
    assert [row["user"] for row in rows(tmp_path)] == ["1", "3"]
    assert [row["user"] for row in rows(tmp_path / name)] == ["1"]


@pytest.mark.parametrize("name", ["a.pq", "a.PARQUET", "a.snappy.parquet", "a.parq", "part-00000"])
def test_parquet_of_any_suffix_and_none_is_read(tmp_path: Path, name: str):
    write_parquet(tmp_path / name)
    write_parquet(tmp_path / "b.parquet", user=[3], item=[4])
    assert {row["user"] for row in rows(tmp_path)} == {1, 3}
    assert [row["user"] for row in rows(tmp_path / name)] == [1]


def test_other_files_are_named_and_marks_of_writers_are_not(tmp_path: Path):
    for name in ("a.csv", "b.json", "c.csv.xz", "d.parquet.gz", "e", "_SUCCESS", ".a.csv.crc", "_temporary/x.csv"):
        write(tmp_path / name)
    with pytest.warns(UserWarning, match=r"b\.json, c\.csv\.xz, d\.parquet\.gz and 1 more are not read") as caught:
        assert names(tmp_path) == ["a.csv"]
    assert len(caught) == 1


def test_folders_with_equal_signs_are_columns(tmp_path: Path):
    for day, hour in (("2026-01-01", "07"), ("2026-01-02", "__HIVE_DEFAULT_PARTITION__")):
        write(tmp_path / f"dt={day}/h%3D={hour}/part.csv")
    log = open_log(str(tmp_path))
    assert log.columns == ("user", "item", "dt", "h=")
    assert [(row["user"], row["dt"], row["h="]) for row in rows(tmp_path)] == [
        ("1", "2026-01-01", "07"),
        ("1", "2026-01-02", None),
    ]
    assert open_log(f"{tmp_path}/dt=2026-01-01").columns == ("user", "item", "h=")
    assert open_log(f"{tmp_path}/*/*/part.csv").columns == log.columns
    assert read_table(str(tmp_path)).column("dt").to_pylist() == ["2026-01-01", "2026-01-02"]


def test_a_column_of_the_file_comes_before_that_of_its_folder(tmp_path: Path):
    write_parquet(tmp_path / "user=7/a.parquet")
    assert rows(tmp_path) == [{"user": 1, "item": 2}]


def test_a_folder_that_not_all_files_have_is_an_input_error(tmp_path: Path):
    write(tmp_path / "dt=1/a.csv")
    write(tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"expected the columns of .*missing: none; not expected: dt"):
        open_log(str(tmp_path / ""))


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    one, two = write(tmp_path / "a/part-0.csv"), write(tmp_path / "b/part-0.csv", "user,item\n3,4\n")
    log = open_log(str(tmp_path))
    assert [chunk.file for chunk in log.chunks] == ["a/part-0.csv", "b/part-0.csv"]
    before = fingerprint(log.files)
    texts = one.read_text(), two.read_text()
    one.write_text(texts[1])
    two.write_text(texts[0])
    assert fingerprint(find_files(str(tmp_path))) != before


def test_files_of_different_names_are_called_by_them_alone(tmp_path: Path):
    for name in ("a/1.csv", "b/2.csv"):
        write(tmp_path / name)
    files = find_files(str(tmp_path))
    assert [file.shown for file in files] == ["1.csv", "2.csv"]
    assert fingerprint(files) == fingerprint([File(file.path) for file in files])


def test_a_file_without_a_line_is_told_and_holds_no_row(tmp_path: Path):
    for empty in ("a.csv", "c.csv"):
        write(tmp_path / empty, "")
    write(tmp_path / "b.csv")
    with pytest.warns(UserWarning, match=r"a\.csv and 1 more: empty, not even a line with the names of columns"):
        log = open_log(str(tmp_path))
    assert log.columns == ("user", "item")
    assert len(log.chunks) == 1


MARKS = {
    "delta": "_delta_log/00000000000000000000.json",
    "hudi": ".hoodie/hoodie.properties",
    "iceberg": "metadata/v1.metadata.json",
    "lance": "_versions/1.manifest",
}


@pytest.mark.parametrize("kind", MARKS)
@pytest.mark.parametrize("named", ["", "/*.parquet", "/data", "/dt=1", "/dt=1/a.parquet", "/d*/a.parquet"])
def test_a_table_that_keeps_removed_rows_is_refused_however_it_is_named(tmp_path: Path, kind: str, named: str):
    table = tmp_path / "table"
    write(table / MARKS[kind], json.dumps({"remove": {"path": "a.parquet"}}))
    for name in ("a.parquet", "dt=1/a.parquet", "data/a.parquet"):
        write_parquet(table / name)
    with pytest.raises(InputError, match=f"found the {kind.title()} table {table}, .* by the source `kind: {kind}`"):
        find_files(f"{table}{named}")


def test_a_table_beside_the_log_does_no_harm(tmp_path: Path):
    write(tmp_path / "table/_delta_log/0.json", "{}")
    write_parquet(tmp_path / "table/a.parquet")
    write_parquet(tmp_path / "plain/b.parquet")
    assert names(tmp_path / "plain") == ["b.parquet"]
    assert [file.name for file in find_files(f"{tmp_path}/p*/b.parquet")] == ["b.parquet"]
    with pytest.raises(InputError, match="found the Delta table"):
        find_files(str(tmp_path))


@pytest.mark.parametrize("size", [0, 3, 50, -20])
def test_a_truncated_file_is_named_in_one_line(tmp_path: Path, size: int):
    path = write_parquet(tmp_path / "a.parquet", user=list(range(1000)), item=list(range(1000)))
    path.write_bytes(path.read_bytes()[:size])
    packed = write(tmp_path / "b.csv.gz", "user,item\n" + "1,2\n" * 1000)
    packed.write_bytes(packed.read_bytes()[:-10])
    for file in (path, packed):
        with pytest.raises(InputError, match=f"{file}: expected .* found what cannot be read") as caught:
            open_log(str(file))
        assert "\n" not in str(caught.value)


def test_damage_within_a_parquet_file_is_named_in_one_line(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", user=[f"user {i * 7919}" for i in range(9999)])
    content = bytearray(path.read_bytes())
    content[20:2000] = bytes(1980)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path}: expected rows that pyarrow reads, found") as caught:
        rows(path)
    assert "\n" not in str(caught.value)
