"""The users of an item, as `prepare` lists them, as the model reads them and as callers send them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.item_catalog import ITEMS
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.evaluation.evaluate import evaluated
from mtl_ray.models import build_model, checkpoint
from mtl_ray.schema import FIRST, SPLITS, UNKNOWN, label_column
from mtl_ray.scoring.recommender import Recommender
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.values.vocabulary import VOCABULARY, read_vocabularies
from tests.support import shard

LENGTH = 4
SPLIT = {"known": "past", "split": {"kind": "time", "valid_from": 60, "test_from": 80}}
ALL = {"known": "all", "split": {"kind": "random", "valid": 0.1, "test": 0.2}}


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """Rows with ties in time, users whom training does not see, and a rating that tells the row."""
    rng = np.random.default_rng(0)
    users = np.append(rng.integers(0, 12, 290), rng.integers(12, 15, 10))
    columns = {"user": [f"u{user}" for user in users], "item": [f"i{item}" for item in rng.integers(0, 9, 300)]}
    return pd.DataFrame({**columns, "time": np.arange(300) // 3, "rating": 1 + np.arange(300) / 100})


def shop(folder: Path, log: pd.DataFrame, known: str, split: dict, min_count: int = 1, bucket_rows: int = 40):
    folder.mkdir(exist_ok=True)
    log.to_csv(folder / "log.csv", index=False)
    sequence = {"kind": "sequence", "max_length": LENGTH, "known": known, "values": "rating"}
    tree = {
        "name": "shop",
        "data": {
            "source": {"kind": "table", "interactions": "log.csv"},
            "raw": str(folder),
            "output": str(folder / f"out{bucket_rows}"),
            "time": "time",
            "split": split,
            "bucket_rows": bucket_rows,
        },
        "features": {
            "user": {"kind": "id", "entity": "user", "min_count": min_count},
            "item": {"kind": "id", "entity": "item"},
            "history": {**sequence, "of": "item"},
            "audience": {**sequence, "of": "user", "entity": "item"},
        },
        "tasks": {"rating": "regression"},
        "model": {"embedding_dim": 8, "interaction": "dot"},
    }
    return parse(tree, "test")


def encoded(prepared: Prepared) -> pd.DataFrame:
    """The encoded rows of all splits, by their rating."""
    frames = []
    for split in SPLITS:
        for file in (prepared.folder / split).files():
            frames.append(pq.ParquetFile(file).read().to_pandas().assign(split=split))
    return (
        pd.concat(frames)
        .assign(place=lambda f: (100 * (f[label_column("rating")] - 1)).round().astype(int))
        .set_index("place")
        .sort_index()
    )


def raw_test(prepared: Prepared) -> pa.Table:
    tables = [pq.ParquetFile(file).read() for file in (prepared.folder / RAW_TEST).files()]
    return pa.concat_tables(tables)


def vocabulary(prepared: Prepared) -> dict[str, int]:
    words = prepared.folder.read_table(VOCABULARY).to_pandas()
    return {value: FIRST + row for row, value in enumerate(words[words.feature == "user"].value)}


@pytest.mark.parametrize("settings", [SPLIT, ALL], ids=["past", "all"])
@pytest.mark.parametrize("min_count", [1, 20])
def test_an_audience_holds_the_last_users_that_the_row_may_know(tmp_path: Path, log, settings, min_count):
    prepared = prepare(shop(tmp_path, log, **settings, min_count=min_count))
    assert len(prepared.schema.train_offsets) > 2
    found, known = encoded(prepared), vocabulary(prepared)
    fitted, split = prepared.schema.features["audience"], found.split.to_numpy()
    numbers = np.arange(len(log))
    for row, each in found.iterrows():
        may = log.time < log.time[row] if settings is SPLIT else (split == "train") & (numbers != row)
        places = numbers[(log.item == log.item[row]) & may]
        ids = each["audience"]
        size = min(LENGTH, len(places))
        assert (ids[size:] == 0).all()
        values = each["audience.values"][:size] * fitted.std + fitted.mean
        listed = (100 * (values - 1)).round().astype(int)  # the rating tells the row
        assert list(log.time[listed]) == list(log.time[places][-size:] if size else [])
        assert set(listed) <= set(places)
        assert list(ids[:size]) == [known.get(user, UNKNOWN) for user in log.user[listed]]


@pytest.mark.parametrize("settings", [SPLIT, ALL], ids=["past", "all"])
def test_the_number_of_partitions_does_not_matter(tmp_path: Path, log, settings):
    few, many = (prepare(shop(tmp_path, log, **settings, bucket_rows=rows)) for rows in (1000, 20))
    assert len(few.schema.train_offsets) == 2 < len(many.schema.train_offsets)
    one, other = encoded(few), encoded(many)
    for name in ("audience", "audience.values", "history", "item"):
        np.testing.assert_array_equal(np.stack(one[name]), np.stack(other[name]))
    one, other = ((p.folder.read_table(ITEMS).sort_by("item"), raw_test(p).sort_by("rating")) for p in (few, many))
    for a, b in zip(one, other, strict=True):
        assert a.to_pylist() == b.to_pylist()


def test_shown_rows_of_held_out_items_are_their_audience(tmp_path: Path, log):
    cold = {"kind": "cold", "valid_users": 0, "test_users": 0, "test_items": 0.4, "shown_items": 2}
    log = log.assign(time=range(len(log)))
    prepared = prepare(shop(tmp_path, log, "past", cold))
    for row in raw_test(prepared).to_pylist():
        earlier = log[(log.item == row["item"]) & (log.time < int(row["time"]))][:2]
        assert row["audience"] == earlier.user.tolist()
        assert row["audience.values"] == earlier.rating.tolist()
    assert prepared.quality["leakage"]["user"]["in audiences of training rows"] > 0
    assert prepared.quality["leakage"]["item"]["in training rows"] == 0


@pytest.fixture(scope="module")
def model(log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment, Prepared]:
    """A checkpoint with random weights, as it is registered."""
    folder = tmp_path_factory.mktemp("model")
    experiment = shop(folder, log, **SPLIT)
    prepared = prepare(experiment)
    torch.manual_seed(0)
    checkpoint.save(folder / "c", experiment, prepared.schema, build_model(experiment, prepared.schema), {})
    for name in (VOCABULARY, ITEMS):
        prepared.folder.copy_to(name, folder / "c" / name)
    return folder / "c", experiment, prepared


def test_raw_test_rows_score_as_they_were_evaluated(model):
    folder, _, prepared = model
    scorer = Scorer(folder)
    rows = raw_test(prepared).sort_by("rating")
    assert scorer.input_columns() == ["user", "item", "history", "history.values", "audience", "audience.values"]
    found = evaluated(scorer.model, shard(prepared, "test").evaluation_batches(1000))
    expected = found["rating"][found[label_column("rating")].argsort()].double().numpy()
    np.testing.assert_allclose(scorer.score(rows)["rating"], expected, rtol=1e-6)
    without = scorer.score(rows.drop_columns(["audience", "audience.values"]))["rating"]
    assert np.abs(without - expected).max() > 1e-4


def test_candidates_have_the_audience_that_the_log_ends_with(model, log):
    folder = model[0]
    items = Recommender(folder).items
    assert items.column_names == ["item", "audience", "audience.values"]
    for row in items.to_pylist():
        everyone = log[log.item == row["item"]]
        assert row["audience.values"] == pytest.approx(
            sorted(everyone.rating)[-LENGTH:], abs=0.03
        )  # ties have any order
        assert set(row["audience"]) <= set(everyone.user)
    # A user of audiences is no item: nothing is left out of the list.
    ranked = Recommender(folder).recommend({"user": "u1"}, k=100)
    assert len(ranked) == len(items)
    one = items.filter(pc.equal(items.column("item"), ranked[0]["item"])).append_column("user", pa.array(["u1"]))
    assert Scorer(folder).score(one)["rating"].item() == pytest.approx(ranked[0]["score"], rel=1e-6)


def test_a_cold_item_reads_the_trained_vector_of_no_audience(model):
    scorer = Scorer(model[0])
    inputs = next(iter(scorer.model.inputs.values()))
    batch = scorer.inputs(pa.table({"user": ["u1", "u2"], "item": ["never seen", "i1"]}))
    vectors = inputs(batch, {}).vectors
    assert torch.equal(vectors["audience"], inputs.empty["audience"].expand(2, -1))
    known = scorer.inputs(pa.table({"user": ["u1"], "item": ["i1"], "audience": [["u3", "u4"]]}))
    pooled = inputs.tables["user"](known["audience"][0, :2]).sum(0) / 2**0.5
    torch.testing.assert_close(inputs(known, {}).vectors["audience"][0], pooled)
    hidden = {"audience": torch.ones(1, dtype=torch.bool)}
    assert torch.equal(inputs(known, hidden).vectors["audience"][0], inputs.empty["audience"])


def test_encoding_what_a_caller_sends_gives_the_prepared_rows(model):
    _, experiment, prepared = model
    vocabularies = read_vocabularies(prepared.folder, list(experiment.features), [])
    sent = Encoder(experiment, prepared.schema, vocabularies).features(raw_test(prepared).sort_by("rating"))
    rows = encoded(prepared)
    rows = rows[rows.split == "test"]
    for name in ("audience", "audience.values", "history", "history.values"):
        np.testing.assert_array_equal(sent[name], np.stack(rows[name]))
