"""Parquet and CSV logs: nothing is lost, rows keep their numbers, and errors name the file."""

import gzip
import pickle
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.config.data import DataConfig, TableSourceConfig
from mtl_ray.data.sources import csv_files, files
from mtl_ray.data.sources.csv_files import MALFORMED, CsvChunk
from mtl_ray.data.sources.files import find_files, fingerprint, open_log, read_table
from mtl_ray.data.sources.locate import File
from mtl_ray.data.sources.table import open_source
from mtl_ray.errors import InputError


def rows_of(chunk) -> list[tuple[int, dict]]:
    """Every row with its number."""
    return [(first + i, row) for first, table in chunk.read() for i, row in enumerate(table.to_pylist())]


def csv_chunk(path, content: str | bytes, **settings) -> CsvChunk:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CsvChunk(File(str(path)), **settings)


def test_csv_gives_strings_and_null_for_what_is_empty(tmp_path):
    chunk = csv_chunk(tmp_path / "log.csv", 'user,rating,note\n007,4.50,"a,\nb"\n,,NA\n')
    assert rows_of(chunk) == [
        (1, {"user": "007", "rating": "4.50", "note": "a,\nb", MALFORMED: None}),
        (2, {"user": None, "rating": None, "note": "NA", MALFORMED: None}),
    ]
    assert chunk.file == "log.csv"


def test_malformed_rows_are_given_with_their_text_and_number(tmp_path):
    chunk = csv_chunk(tmp_path / "log.csv", "a,b\n1,2\n3\n\n4,5,6\n7,8\n9\n")
    assert [(number, row["a"], row[MALFORMED]) for number, row in rows_of(chunk)] == [
        *((1, "1", None), (2, None, "3"), (3, None, "4,5,6")),
        *((4, "7", None), (5, None, "9")),
    ]


@pytest.mark.parametrize("header", [True, False])
def test_row_numbers_are_exact_over_blocks(tmp_path, monkeypatch, header):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 256)
    lines = [f"{i},x{i}" if i % 7 and not 300 < i < 400 else f"{i}" for i in range(1, 1001)]
    content = "\n".join(["a,b", *lines] if header else lines)
    chunk = csv_chunk(tmp_path / "log.csv", content, names=None if header else ("a", "b"))
    assert len(list(chunk.read())) > 10
    rows = rows_of(chunk)
    assert [number for number, _ in rows] == list(range(1, 1001))
    assert all((row["a"] or row[MALFORMED]) == str(number) for number, row in rows)
    assert all((row["a"] is None) == ("," not in lines[number - 1]) for number, row in rows)


def test_a_csv_file_of_malformed_rows_only_gives_them_all(tmp_path):
    rows = rows_of(csv_chunk(tmp_path / "log.csv", "a,b\n1\n2\n3\n"))
    assert [(number, row[MALFORMED]) for number, row in rows] == [(1, "1"), (2, "2"), (3, "3")]


def test_bytes_that_are_not_text_make_the_row_malformed(tmp_path):
    chunk = csv_chunk(tmp_path / "log.csv", b"a,b\n1,2\nx\xff,3\n4,5,\xff\n6,\xc3\xa9\n")
    assert [(number, row["b"], row[MALFORMED]) for number, row in rows_of(chunk)] == [
        *((1, "2", None), (2, None, "x\ufffd,3")),
        *((3, None, "4,5,\ufffd"), (4, "é", None)),
    ]


def test_other_encodings_names_and_delimiters_are_read(tmp_path):
    content = "1|Misérables|9\n2|Amélie|8\n".encode("latin-1")
    chunk = csv_chunk(
        tmp_path / "items.txt",
        content,
        **{"delimiter": "|", "names": ("id", "title", "score"), "encoding": "latin-1"},
        **{"columns": ("id", "title"), "renames": {"id": "item_id"}},
    )
    assert [(row["item_id"], row["title"]) for _, row in rows_of(chunk)] == [("1", "Misérables"), ("2", "Amélie")]
    assert "score" not in rows_of(chunk)[0][1]


def test_an_encoding_that_needs_more_bytes_in_utf8_is_not_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 64)
    chunk = csv_chunk(tmp_path / "log.csv", ("a\n" + "éèü\n" * 500).encode("latin-1"), encoding="latin-1")
    assert {row["a"] for _, row in rows_of(chunk)} == {"éèü"}
    assert len(rows_of(chunk)) == 500


def test_a_quote_that_never_ends_is_an_input_error(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 64)
    chunk = csv_chunk(tmp_path / "log.csv", 'a,b\n1,2\n"3,4\n' + "5,6\n" * 100)
    with pytest.raises(InputError, match=r"log\.csv: expected CSV, found what cannot be read"):
        rows_of(chunk)


def test_csv_log_may_be_tab_separated_and_compressed(tmp_path):
    (tmp_path / "a.tsv").write_text("user\titem\n1\t2\n")
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"user\titem\n3\t4\n"))
    log = open_log(str(tmp_path))
    assert [row["user"] for chunk in log.chunks for _, row in rows_of(chunk)] == ["1", "3"]
    assert log.columns == ("user", "item")


def test_parquet_is_split_by_row_groups_and_keeps_row_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROWS_PER_CHUNK", 25)
    monkeypatch.setattr(files, "ROWS_PER_TABLE", 8)
    pq.write_table(pa.table({"n": range(1, 101)}), tmp_path / "log.parquet", row_group_size=10)
    log = open_log(str(tmp_path / "log.parquet"))
    assert [(chunk.first_row, chunk.num_groups) for chunk in log.chunks] == [(1, 3), (31, 3), (61, 3), (91, 1)]
    rows = [row for chunk in log.chunks for row in rows_of(pickle.loads(pickle.dumps(chunk)))]  # noqa: S301
    assert rows == [(n, {"n": n}) for n in range(1, 101)]
    assert log.num_rows == 100


@pytest.mark.filterwarnings("ignore:.*notes.txt is not read")
def test_files_are_found_by_path_folder_glob_and_url_in_order(tmp_path):
    for name in ("b/2.csv", "b/10.csv", "a/1.csv", "a/_SUCCESS.csv", ".hidden/3.csv", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n1\n")

    def names(*paths: str) -> list[str]:
        return [file.path.removeprefix(f"{tmp_path}/") for file in find_files(*paths)]

    assert names(str(tmp_path)) == names(tmp_path.as_uri()) == ["a/1.csv", "b/10.csv", "b/2.csv"]
    assert names(f"{tmp_path}/b/*.csv") == names(f"{tmp_path.as_uri()}/b/*.csv") == ["b/10.csv", "b/2.csv"]
    assert names(f"{tmp_path}/[ab]/?.csv") == ["a/1.csv", "b/2.csv"]
    assert names(f"{tmp_path}/a*") == ["a/1.csv"]
    assert names(f"{tmp_path}/b/2.csv", f"{tmp_path}/a/1.csv") == ["b/2.csv", "a/1.csv"]


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path):
    (tmp_path / "log[1].csv").write_text("x\n1\n")
    assert [file.name for file in find_files(f"{tmp_path}/log[1].csv")] == ["log[1].csv"]


def test_fingerprint_depends_on_names_and_content_but_not_on_the_place(tmp_path):
    for place in ("one", "two/deeper"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.csv").write_text("x\n1\n")
        (tmp_path / place / "b.csv").write_text("x\n2\n")

    def digest(place: str) -> str:
        return fingerprint(find_files(str(tmp_path / place)))

    original = digest("one")
    assert original == digest("two/deeper")
    assert original == fingerprint(find_files(str(tmp_path / "one/b.csv"), str(tmp_path / "one/a.csv")))
    (tmp_path / "one/b.csv").write_text("x\n3\n")
    changed = digest("one")
    shutil.move(tmp_path / "two/deeper/b.csv", tmp_path / "two/deeper/c.csv")
    assert len({original, changed, digest("two")}) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", "a,b\n", r"empty log: expected at least one row"),
        ("log.csv", "", r"empty log: expected at least one row"),
        ("log.csv", "a,a\n1,2\n", r"log\.csv: expected different names of columns .* found a more than once"),
        ("log.json", "{}", r"log\.json: expected a file that ends with \.parquet, \.csv, \.csv\.gz, \.tsv, \.tsv\.gz"),
        ("log.parquet", "no", r"log\.parquet: expected a Parquet file, found what cannot be read"),
    ],
)
def test_an_unusable_log_is_an_input_error(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        open_log(str(tmp_path / name))


def test_an_empty_parquet_log_is_an_input_error(tmp_path):
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "log.parquet")
    with pytest.raises(InputError, match="empty log"):
        open_log(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.csv", r"missing\.csv: expected a file, a folder or a glob, found nothing there"),
        ("missing/*.csv", r"missing/\*\.csv: expected a file, a folder or a glob, found nothing there"),
        ("*.tsv", r"\*\.tsv: expected files that end with \.parquet.* found none"),
    ],
)
def test_a_missing_path_is_named(tmp_path, path, message):
    with pytest.raises(InputError, match=message):
        open_log(f"{tmp_path}/{path}")


def test_a_scheme_that_pyarrow_does_not_know_is_an_input_error():
    with pytest.raises(InputError, match=r"nowhere://log: expected a path or URL that pyarrow opens, found"):
        open_log("nowhere://log")


def test_files_of_one_log_must_agree(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("x,z\n1,2\n")
    with pytest.raises(InputError, match=r"b\.csv: expected the columns of .*a\.csv \(x, y\), found x, z"):
        open_log(str(tmp_path))
    pq.write_table(pa.table({"x": [1], "y": [2]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="expected Parquet files or CSV files, found both"):
        open_log(str(tmp_path))


def test_side_tables_are_read_whole_and_a_malformed_row_is_named(tmp_path):
    (tmp_path / "users.csv").write_text("user,age\n0012345678901234567890,31\n2,\n")
    table = read_table(str(tmp_path / "users.csv"))
    assert table.to_pydict() == {"user": ["0012345678901234567890", "2"], "age": ["31", None]}
    (tmp_path / "users.csv").write_text("user,age\n1,2\n3,4,5\n")
    with pytest.raises(InputError, match=r"users\.csv, row 2: expected 2 fields of valid text, found `3,4,5`"):
        read_table(str(tmp_path / "users.csv"))


def test_table_source_starts_relative_paths_from_the_raw_folder(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n1,2\n")
    pq.write_table(pa.table({"user": [1], "age": [30]}), tmp_path / "users.parquet")
    relative = TableSourceConfig(interactions="log.csv", users="users.parquet")
    absolute = TableSourceConfig(interactions=f"{tmp_path}/log.csv", users=f"{tmp_path}/users.parquet")
    raw = open_source(relative, DataConfig(source=relative, raw=f"{tmp_path}/"))
    assert raw.fingerprint == open_source(absolute, DataConfig(source=absolute)).fingerprint
    assert raw.users is not None
    assert raw.users.to_pylist() == [{"user": 1, "age": 30}]
    assert raw.items is None
    assert (raw.columns, [chunk.file for chunk in raw.chunks]) == (("user", "item"), ["log.csv"])
