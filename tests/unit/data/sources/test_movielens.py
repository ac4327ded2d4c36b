"""MovieLens and KuaiRand are read as published."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.config.data import DataConfig, KuaiRandSourceConfig, MovieLensSourceConfig
from mtl_ray.data.sources import kuairand
from mtl_ray.data.sources.base import Raw
from mtl_ray.data.sources.csv_files import MALFORMED
from mtl_ray.data.sources.movielens import open_source, parts_of
from mtl_ray.errors import InputError

GENRES = ("unknown", "Action", "Film-Noir")


def real_data(name: str) -> str:
    folder = os.environ.get("MTL_RAY_TEST_DATA")
    if not folder:
        pytest.skip("MTL_RAY_TEST_DATA does not name the folder of the real data sets")
    return str(Path(folder) / name)


def opened(raw: Path | str, **settings) -> Raw:
    source = MovieLensSourceConfig(**settings)
    return open_source(source, DataConfig(source=source, raw=str(raw)))


def log_of(raw: Raw) -> pa.Table:
    return pa.concat_tables([table for chunk in raw.chunks for _, table in chunk.read()])


@pytest.fixture
def folder_100k(tmp_path) -> Path:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    ratings = [f"{user}\t{item}\t{rating}\t88125{user}" for user, item, rating in ((1, 1, 5), (2, 1, 3), (2, 3, 1))]
    (folder / "u.data").write_text("\n".join(ratings) + "\n")
    (folder / "u1.base").write_text("\n".join(ratings[:2]) + "\n")
    (folder / "u1.test").write_text(ratings[2] + "\n")
    (folder / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|T8H1N\n")
    (folder / "u.genre").write_text("".join(f"{name}|{i}\n" for i, name in enumerate(GENRES)) + "\n")
    items = [
        "1|Misérables, Les (1995)|01-Jan-1996||http://x|0|1|1",
        "2|Land Before Time (1995) (V)|||http://x|0|0|0",
        "3|unknown||||1|0|0",
    ]
    (folder / "u.item").write_bytes(("\n".join(items) + "\n").encode("latin-1"))
    return folder


@pytest.fixture
def folder_1m(tmp_path) -> Path:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3\n2::1193::4::978298413\n")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    (folder / "movies.dat").write_bytes(
        "661::Cité (1996)::Animation|Musical\n1193::Nest: (1975)::Drama\n".encode("latin-1")
    )
    return folder


def test_100k_gives_users_and_items_with_their_attributes(folder_100k):
    raw = opened(folder_100k)
    assert raw.users is not None
    assert raw.items is not None
    assert raw.users.to_pylist() == [
        {"user_id": "1", "age": 24, "gender": "M", "occupation": "technician", "zip": "85711"},
        {"user_id": "2", "age": 53, "gender": "F", "occupation": "other", "zip": "T8H1N"},
    ]
    assert raw.items.to_pylist() == [
        {"item_id": "1", "title": "Misérables, Les", "year": 1996, "genres": "Action|Film-Noir"},
        {"item_id": "2", "title": "Land Before Time (V)", "year": 1995, "genres": None},
        {"item_id": "3", "title": "unknown", "year": None, "genres": "unknown"},
    ]
    assert tuple(raw.columns) == ("user_id", "item_id", "rating", "timestamp")
    assert log_of(raw).to_pylist()[0] == {
        **{"user_id": "1", "item_id": "1", "rating": "5", "timestamp": "881251"},
        MALFORMED: None,
    }


def test_a_published_split_is_its_base_and_test_file(folder_100k):
    raw = opened(folder_100k, split="u1")
    assert [chunk.file for chunk in raw.chunks] == ["u1.base", "u1.test"]
    assert log_of(raw).equals(log_of(opened(folder_100k)))
    assert raw.fingerprint != opened(folder_100k).fingerprint


def test_1m_gives_readable_occupations_and_streams_its_log(folder_1m):
    raw = opened(folder_1m, variant="1m")
    assert raw.users is not None
    assert raw.items is not None
    assert raw.users.to_pylist() == [
        {"user_id": "1", "age": 1, "gender": "F", "occupation": "K-12 student", "zip": "48067"},
        {"user_id": "2", "age": 56, "gender": "M", "occupation": "self-employed", "zip": "70072"},
    ]
    assert raw.items.to_pylist() == [
        {"item_id": "661", "title": "Cité", "year": 1996, "genres": "Animation|Musical"},
        {"item_id": "1193", "title": "Nest:", "year": 1975, "genres": "Drama"},
    ]
    log = log_of(raw)
    assert log["user_id"].to_pylist() == ["1", None, "2"]
    assert log["timestamp"].to_pylist() == ["978300760", None, "978298413"]
    assert log[MALFORMED].to_pylist() == [None, "1::661::3", None]
    assert [chunk.file for chunk in raw.chunks] == ["ratings.dat"]


def test_a_zip_and_a_file_url_give_what_the_folder_gives(folder_100k, tmp_path):
    archive = tmp_path / "ml-100k.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder_100k.iterdir():
            file.write(path, f"ml-100k/{path.name}")
    expected = opened(folder_100k)
    source = MovieLensSourceConfig()
    for raw in (str(archive), archive.as_uri()):
        found = open_source(source, DataConfig(source=source, raw=raw, cache=str(tmp_path / "cache")))
        assert found.fingerprint == expected.fingerprint
        assert (found.users, found.items, log_of(found)) == (expected.users, expected.items, log_of(expected))


@pytest.mark.parametrize("name", ["u.data", "u.user", "u.item", "u.genre"])
def test_a_missing_file_is_named_with_the_layout(folder_100k, name):
    (folder_100k / name).unlink()
    with pytest.raises(
        InputError, match=rf"expected {name}, found no such file; the layout of MovieLens 100k is u\.data"
    ):
        opened(folder_100k)


def test_a_malformed_side_table_is_named_with_its_line(folder_100k):
    (folder_100k / "u.user").write_text("1|24|M|technician|85711\n2|53\n")
    with pytest.raises(InputError, match=r"u\.user, line 2: expected 5 fields apart by \|, found 2"):
        opened(folder_100k)


def test_an_empty_log_is_an_input_error(folder_100k):
    (folder_100k / "u.data").write_text("")
    with pytest.raises(InputError, match="empty log: expected ratings"):
        opened(folder_100k)


def test_1m_has_no_published_split(folder_1m):
    with pytest.raises(InputError, match=r"data\.source: expected no split or protocol for 1m, found u1"):
        opened(folder_1m, variant="1m", split="u1")


def fold_table(n: int = 60) -> pa.Table:
    """Six users and ten items, each with each once, of which two are shown."""
    rng = np.random.default_rng(0)
    user, item = np.arange(n) % 6, np.arange(n) // 6
    return pa.table(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": rng.permutation(n),
            "cv5_fold": rng.permutation(n) % 5,
            "user_fold": user % 5,
            "item_fold": item % 5,
            "shown_user_k5": item >= 8,
        }
    )


def test_the_rows_of_a_protocol_play_their_part():
    folds = fold_table().to_pandas()
    parts = folds.assign(part=parts_of(fold_table(), "cold_user_k5", 0))
    assert set(parts[parts.user_fold == 0].part) == {"test", "shown"}
    assert set(parts[(parts.part == "shown")].item_id) == {8, 9}
    assert set(parts[(parts.part == "valid")].user_fold) == {1}
    assert (parts[parts.part == "valid"].item_id < 8).all()
    both = folds.assign(part=parts_of(fold_table(), "cold_both", 4))
    test, train = both[both.part == "test"], both[both.part.isin(["train", "valid", "rest"])]
    assert set(test.user_id).isdisjoint(train.user_id)
    assert set(test.item_id).isdisjoint(train.item_id)
    valid, fitted = both[both.part == "valid"], both[both.part == "train"]
    assert len(valid)
    assert set(valid.user_id).isdisjoint(fitted.user_id)
    assert set(valid.item_id).isdisjoint(fitted.item_id)
    profile = folds.assign(part=parts_of(fold_table(), "profile", 2))
    assert profile[profile.part == "test"].groupby("user_id").size().tolist() == [1]
    tested = profile[profile.user_fold == 2]
    assert tested[tested.part == "test"].timestamp.item() == tested.timestamp.max()
    assert set(tested.part) == {"test", "shown"}


def test_folds_of_another_log_are_refused(folder_100k):
    table = fold_table(3).set_column(1, "item_id", pa.array([1, 1, 2]))
    pq.write_table(table.set_column(0, "user_id", pa.array([1, 2, 2])), folder_100k / "folds.parquet")
    raw = opened(folder_100k, protocol="cv5")
    assert raw.columns[-1] == "split"
    with pytest.raises(InputError, match=r"folds.parquet: expected one row for each row of u.data"):
        log_of(raw)
    pq.write_table(
        fold_table(3).set_column(0, "user_id", pa.array([1, 2, 2])).set_column(1, "item_id", pa.array([1, 1, 3])),
        folder_100k / "folds.parquet",
    )
    assert set(log_of(raw)["split"].to_pylist()) <= {"train", "valid", "test"}


def test_real_100k_has_its_published_counts():
    raw = opened(real_data("ml-100k"))
    assert raw.users is not None
    assert raw.items is not None
    assert (len(log_of(raw)), len(raw.users), len(raw.items)) == (100_000, 943, 1682)
    assert raw.users["age"].null_count == 0
    assert raw.items["year"].null_count == 1
    split = opened(real_data("ml-100k"), split="u1")
    assert [sum(len(table) for _, table in chunk.read()) for chunk in split.chunks] == [80_000, 20_000]
    assert log_of(split)[MALFORMED].null_count == 100_000


def published_kuairand(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "user_features_pure.csv").write_text('user_id,fans_user_num_range\n0,"[100,1k)"\n')
    (folder / "video_features_basic_pure.csv").write_text('video_id,tag\n7,"12,39"\n8,\n')
    (folder / "video_features_statistic_pure.csv").write_text("video_id,counts\n7,1\n")


def kuairand_of(folder: Path) -> Raw:
    return kuairand.open_source(DataConfig(source=KuaiRandSourceConfig(), raw=str(folder)))


def test_kuairand_reads_the_published_columns_only(tmp_path):
    published_kuairand(tmp_path / "k")
    table = pa.table(
        {"user_id": [0], "video_id": [7], "time_ms": [1], "is_click": [1], "watch_ratio": [0.5], "like": [1]}
    )
    pq.write_table(table, tmp_path / "k/val.parquet")
    pq.write_table(table, tmp_path / "k/test.parquet")
    raw = kuairand_of(tmp_path / "k")
    assert tuple(raw.columns) == ("user_id", "video_id", "time_ms", "is_click")
    assert [chunk.file for chunk in raw.chunks] == ["val.parquet", "test.parquet"]
    assert log_of(raw).column_names == list(raw.columns)
    assert raw.users is not None
    assert raw.items is not None
    assert raw.items.to_pylist() == [{"video_id": "7", "tag": "12,39"}, {"video_id": "8", "tag": None}]
    assert raw.users.to_pylist() == [{"user_id": "0", "fans_user_num_range": "[100,1k)"}]


def test_kuairand_reads_the_published_csv_in_the_folder_data(tmp_path):
    published_kuairand(tmp_path / "k/data")
    for part in ("4_22_to_5_08", "4_08_to_4_21"):
        (tmp_path / f"k/data/log_standard_{part}_pure.csv").write_text("user_id,video_id,is_click\n0,7,1\n")
    raw = kuairand_of(tmp_path / "k")
    assert [chunk.file[13:17] for chunk in raw.chunks] == ["4_08", "4_22"]
    assert log_of(raw)["is_click"].to_pylist() == ["1", "1"]


def test_kuairand_names_what_is_missing(tmp_path):
    published_kuairand(tmp_path / "k")
    with pytest.raises(InputError, match=r"expected one file val\.parquet, found 0; the layout of KuaiRand-Pure is"):
        kuairand_of(tmp_path / "k")
    with pytest.raises(InputError, match=r"data\.raw: expected the folder or zip of KuaiRand-Pure"):
        kuairand.open_source(DataConfig(source=KuaiRandSourceConfig()))


def test_real_kuairand_has_its_published_counts():
    raw = kuairand_of(Path(real_data("kuairand-pure-subset")))
    assert raw.users is not None
    assert raw.items is not None
    assert (raw.num_rows, len(raw.users), len(raw.items)) == (228_329, 27_285, 7_583)
    assert log_of(raw).column_names == list(raw.columns)
    assert len(raw.columns) == 19
