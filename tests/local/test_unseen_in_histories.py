"""Items that training has not seen, in histories: from the tables to rows, catalog, model and scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.data.attribute_catalog import catalog_file
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.evaluation.evaluate import evaluated
from mtl_ray.models import checkpoint
from mtl_ray.schema import FIRST, UNKNOWN
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.training.fit import fit
from mtl_ray.training.trainer import Trainer
from mtl_ray.training.warm_start import start_from
from mtl_ray.values.vocabulary import VOCABULARY, read_vocabularies
from tests.support import shard


def shop(folder: Path, *, in_table: bool = True) -> Experiment:
    """A log in which new items come all the time; the table knows all but one of those in it, and one more."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    item = (np.arange(400) // 20 + rng.integers(0, 10, 400)).tolist()
    rows = {"user": [f"u{n}" for n in rng.integers(0, 12, 400)], "item": [f"i{n}" for n in item], "time": range(400)}
    log = pd.DataFrame({**rows, "color": [f"c{n % 3}" for n in item], "rating": rng.integers(1, 6, 400)})
    numbers = [n for n in range(40) if n != 26]
    items = {"item": [f"i{n}" for n in numbers], "color": [f"c{n % 3}" for n in numbers], "price": numbers}
    (log.drop(columns="color") if in_table else log).to_csv(folder / "log.csv", index=False)
    pd.DataFrame(items).drop(columns=[] if in_table else "color").to_csv(folder / "items.csv", index=False)
    tree = {
        "name": "shop",
        "defaults": "fixed",
        "data": {
            "source": {"kind": "table", "interactions": "log.csv", "items": "items.csv"},
            "raw": str(folder),
            "output": str(folder / "out"),
            "time": "time",
            "split": {"kind": "time"},
            "bucket_rows": 100,
        },
        "features": {
            "user": {"kind": "id", "entity": "user"},
            "history": {"kind": "sequence", "of": "item", "max_length": 6, "unseen": "content"},
            "item": {"kind": "id", "entity": "item", "cold_start": "content_gate"},
            "color": {"kind": "categorical", "entity": "item"},
            "price": {"kind": "numeric", "entity": "item"},
            "clicks": {"kind": "statistic", "entity": "item", "of": "rating"},
        },
        "tasks": {"rating": "regression"},
        "model": {"embedding_dim": 8},
        "training": {"epochs": 1, "batch_size": 64, "early_stopping": None},
    }
    return parse(tree, "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Experiment, Prepared]:
    experiment = shop(tmp_path_factory.mktemp("shop"))
    return experiment, prepare(experiment, echo=lambda _: None)


def encoder_of(experiment: Experiment, prepared: Prepared) -> Encoder:
    words = read_vocabularies(prepared.folder, list(experiment.features))
    return Encoder(experiment, prepared.schema, words)


def test_what_the_table_describes_has_rows_after_those_of_the_embeddings(made):
    experiment, prepared = made
    encoder = encoder_of(experiment, prepared)
    known, others = (encoder.vocabularies[name].values.to_pylist() for name in ("item", "history"))
    assert others == [f"i{n}" for n in range(40) if n != 26 and f"i{n}" not in known]
    assert "i26" not in known
    size = prepared.schema.features["item"].num_embeddings or 0
    assert prepared.schema.features["history"].num_embeddings == size + len(others)
    raw = prepared.folder.read_table(f"{RAW_TEST}/00000.parquet")
    encoded = encoder.features(raw, ["history"])["history"]
    assert (encoded >= size).any()
    assert (encoded == UNKNOWN).any()  # i26
    for ids, rows in zip(raw.column("history").to_pylist(), encoded, strict=True):
        place = {name: row for row, name in enumerate(known, FIRST)} | {n: r for r, n in enumerate(others, size)}
        expected = [place.get(name, UNKNOWN) for name in ids[-6:]]
        assert rows.tolist() == expected + [0] * (6 - len(expected))
    assert prepared.quality["leakage"]["item"]["in histories of training rows"] >= 0


def test_the_catalog_has_the_attributes_of_each_row_and_nothing_of_its_interactions(made):
    experiment, prepared = made
    catalog = prepared.folder.read_table(catalog_file("item"))
    encoder = encoder_of(experiment, prepared)
    order = [item for name in ("item", "history") for item in encoder.vocabularies[name].values.to_pylist()]
    colors = encoder.vocabularies["color"].values.to_pylist()
    found = catalog.column("color").to_numpy()[FIRST:]
    for name, color in zip(order, found, strict=True):
        assert name == "i26" or colors[color - FIRST] == f"c{int(name[1:]) % 3}"
    assert not np.any(catalog.column("clicks").to_pylist())
    prices = catalog.column("price").to_numpy()[FIRST:]
    assert np.corrcoef(prices[~np.isnan(prices)], [int(n[1:]) for n in order if n != "i26"])[0, 1] > 0.999


def test_raw_rows_have_the_scores_of_the_evaluation(made, tmp_path: Path):
    experiment, prepared = made
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    fit(trainer, shard(prepared, "train"), shard(prepared, "valid"), lambda _: None, None)
    checkpoint.save(tmp_path, experiment, prepared.schema, trainer.evaluated, None)
    prepared.folder.copy_to(VOCABULARY, tmp_path / VOCABULARY)
    scorer = Scorer(tmp_path)
    files = (prepared.folder / RAW_TEST).files(".parquet")
    raw = [scorer.score(prepared.folder.read_table(f"{RAW_TEST}/{f.rpartition('/')[2]}"))["rating"] for f in files]
    rows = evaluated(scorer.model, shard(prepared, "test").evaluation_batches(1000))
    np.testing.assert_allclose(np.sort(np.concatenate(raw)), np.sort(rows["rating"].numpy()), rtol=1e-5)
    other = Trainer(experiment, prepared.schema, torch.device("cpu"))
    start_from(other, prepared, str(tmp_path))
    assert not other.model.catalogs["item"].columns.get_buffer("color").any()  # it is of the data set, and read there
    other.read_catalogs(prepared.folder)
    again = evaluated(other.model.eval(), shard(prepared, "test").evaluation_batches(1000))
    assert torch.equal(again["rating"], rows["rating"])


def test_attributes_must_be_in_a_table(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"features.history.unseen: `content` needs attributes of items that are not in"
    ):
        prepare(shop(tmp_path, in_table=False), echo=lambda _: None)
