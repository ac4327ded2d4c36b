"""Statistics of users, items and attributes as features: what a row sees of earlier labels, and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_ray.config import Experiment, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.models import build_masking, build_model, checkpoint
from mtl_ray.schema import SPLITS
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.training.state import state_of
from mtl_ray.training.trainer import Trainer
from tests.support import shard

PRIOR = 4.0
CUT = 160
KEYS = {"of_user": "user", "of_item": "item", "of_brand": "brand"}


@pytest.fixture
def log() -> pd.DataFrame:
    """Some of the 200 rows share an instant; three labels are missing; user and item of the last are new."""
    rng = np.random.default_rng(0)
    columns = {name: [f"{name[0]}{i}" for i in rng.integers(n, size=200)] for name, n in (("user", 12), ("item", 9))}
    frame = pd.DataFrame({**columns, "time": np.arange(200) // 2 * 2, "click": rng.integers(2, size=200).astype(float)})
    frame.loc[[5, 50, 170], "click"] = np.nan
    frame.loc[[199], ["user", "item"]] = ["z", "zz"]
    return frame.drop_duplicates(["user", "item", "time"], ignore_index=True)


def shop(folder: Path, log: pd.DataFrame, name: str = "log", *, timed: bool = True, rows: int = 1000) -> Experiment:
    (folder / name).mkdir()
    log.to_csv(folder / name / "log.csv", index=False)
    items = pd.DataFrame({"item": [f"i{i}" for i in range(9)], "brand": [f"b{i % 3}" for i in range(9)]})
    items.to_csv(folder / name / "items.csv", index=False)
    statistic = {"kind": "statistic", "of": "click", "prior": PRIOR}
    tree = {
        "name": "shop",
        "data": {
            "source": {"kind": "table", "interactions": "log.csv", "items": "items.csv"},
            "raw": str(folder / name),
            "output": str(folder / f"{name}-out"),
            "bucket_rows": rows,
            **({"time": "time", "split": {"kind": "time", "test_from": CUT}} if timed else {}),
        },
        "features": {
            "user": {"kind": "id", "entity": "user"},
            "item": {"kind": "id", "entity": "item"},
            "time": {"kind": "numeric"},
            "of_user": {**statistic, "entity": "user"},
            "of_item": {**statistic, "entity": "item"},
            "of_brand": {**statistic, "entity": "item", "column": "brand"},
        },
        "tasks": {"click": "binary"},
        "model": {"embedding_dim": 8},
    }
    return parse(tree, "test")


def seen(prepared: Prepared, split: str) -> pd.DataFrame:
    """By place in the log (the time and the user tell it): number and sum of labels, computed back from the inputs."""
    table = pd.concat(
        [
            prepared.folder.read_table(f"{split}/{f.rpartition('/')[2]}").to_pandas()
            for f in (prepared.folder / split).files()
        ]
    )
    words = prepared.folder.read_table("vocabulary.parquet").to_pandas()
    result = {"time": table.time * prepared.schema.features["time"].std + prepared.schema.features["time"].mean}
    for name in ("user", "item"):
        known = words[words.feature == name].value.to_numpy()
        result[name] = [known[row - 3] if row >= 3 else None for row in table[name]]
    for name in KEYS:
        fitted = prepared.schema.features[name]
        away, count = np.stack(table[name].to_list()).astype(float).T
        count = np.expm1(4 * count)
        result[f"{name}.count"] = count
        result[f"{name}.sum"] = away * fitted.std * (count + PRIOR) + count * fitted.mean
    return pd.DataFrame(result).round(3).sort_values(["time", "user", "item"], ignore_index=True)


def joined(log: pd.DataFrame) -> pd.DataFrame:
    brand = log.item.map(lambda item: f"b{int(item[1:]) % 3}" if item[1:].isdigit() else None)
    return log.assign(brand=brand)


def total(past: pd.DataFrame) -> tuple[int, float]:
    return past.click.count(), past.click.sum()


def test_an_evaluation_row_sees_all_training_rows_and_no_other(tmp_path: Path, log):
    found, frame = seen(prepare(shop(tmp_path, log)), "test"), joined(log)
    train, test = frame[frame.time < CUT], frame[frame.time >= CUT].sort_values(["time", "user", "item"])
    assert len(found) == len(test) > 30
    for row, expected in zip(found.itertuples(index=False), test.itertuples(), strict=True):
        for (name, key), at in zip(KEYS.items(), (3, 5, 7), strict=True):
            past = train[train[key] == getattr(expected, key)]
            assert row[at : at + 2] == pytest.approx(total(past), abs=0.01), name
    stranger = found[found.user.isna()]
    assert len(stranger) == 1
    assert stranger.iloc[0, 3:].tolist() == [0] * 6


def test_a_training_row_sees_strictly_earlier_training_rows_alone(tmp_path: Path, log):
    found, frame = seen(prepare(shop(tmp_path, log)), "train"), joined(log)
    train = frame[frame.time < CUT].sort_values(["time", "user", "item"])
    assert len(found) == len(train)
    behind = 0
    for row, expected in zip(found.itertuples(index=False), train.itertuples(), strict=True):
        earlier = train[train.time < expected.time]
        assert row[3:5] == pytest.approx(total(earlier[earlier.user == expected.user]), abs=0.01)  # exactly
        for key, at in (("item", 5), ("brand", 7)):
            past = earlier[earlier[key] == getattr(expected, key)]
            known = [total(past[:n]) for n in range(len(past) + 1)]  # by slices: up to some instant before
            assert any(row[at : at + 2] == pytest.approx(pair, abs=0.01) for pair in known)
            behind = max(behind, len(earlier) - len(earlier[earlier.time < expected.time]), total(past)[0] - row[at])
    assert behind < 3  # a slice has 160 / 64 rows


@pytest.mark.parametrize("timed", [True, False])
def test_no_row_is_told_its_own_label_nor_a_later_one(tmp_path: Path, log, timed: bool):
    before = prepare(shop(tmp_path, log, timed=timed))
    changed = log.copy()
    changed.loc[81, "click"] = 1 - log.click[81]
    after = prepare(shop(tmp_path, changed, "changed", timed=timed))
    own = (log.time[81], log.user[81])
    different = 0
    for split in ("train", "test") if timed else SPLITS:
        one, two = seen(before, split), seen(after, split)
        if timed:
            one, two = one[one.time <= own[0]], two[two.time <= own[0]]
        else:
            rows = (one.time == own[0]) & (one.user == own[1])
            different += (abs(one[~rows].iloc[:, 3:] - two[~rows].iloc[:, 3:]) > 0.01).any(axis=None)
            one, two = one[rows], two[rows]
        assert one.iloc[:, 3:].to_numpy() == pytest.approx(two.iloc[:, 3:].to_numpy(), abs=0.01)
    assert timed or different  # other folds do see it


def test_a_label_of_an_evaluation_row_changes_no_input(tmp_path: Path, log):
    before = prepare(shop(tmp_path, log))
    changed = log.copy()
    changed.loc[log.time >= CUT, "click"] = 1 - log.click
    after = prepare(shop(tmp_path, changed, "changed"))
    assert before.schema.features == after.schema.features
    for split in ("train", "test"):
        pd.testing.assert_frame_equal(seen(before, split), seen(after, split))


def test_the_number_of_buckets_changes_nothing(tmp_path: Path, log):
    one, many = prepare(shop(tmp_path, log)), prepare(shop(tmp_path, log, "many", rows=20))
    assert len(many.schema.train_offsets) > 3
    for name in KEYS:
        assert one.schema.features[name] == many.schema.features[name]
    for split in ("train", "test"):
        pd.testing.assert_frame_equal(seen(one, split), seen(many, split))


def test_the_model_scores_raw_rows_as_it_evaluates_them(tmp_path: Path, log):
    experiment = shop(tmp_path, log)
    prepared = prepare(experiment)
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    trainer.epoch(shard(prepared, "train"))
    folder = tmp_path / "checkpoint"
    checkpoint.save(folder, experiment, prepared.schema, trainer.model, state_of(trainer))
    prepared.folder.copy_to("vocabulary.parquet", folder / "vocabulary.parquet")
    batch = next(shard(prepared, "test").evaluation_batches(1000))
    scorer = Scorer(folder)
    expected = scorer.model.predict(batch)["click"].double().numpy()
    raw = prepared.folder.read_table(f"{RAW_TEST}/00000.parquet")
    assert scorer.score(raw)["click"] == pytest.approx(expected, abs=1e-6)
    stranger = scorer.encoder.features(raw.slice(0, 1).drop_columns(["user", "item", "brand"]), KEYS)
    assert [values.tolist() for values in stranger.values()] == [[[0.0, 0.0]]] * 3


def test_a_simulated_new_entity_reads_what_a_new_entity_reads(tmp_path: Path, log):
    experiment = shop(tmp_path, log)
    prepared = prepare(experiment)
    model = build_model(experiment, prepared.schema).eval()
    batch = next(shard(prepared, "test").evaluation_batches(1000))
    hidden = replace(build_masking(experiment), seed=0).hidden(torch.arange(4000), 0)
    assert torch.equal(hidden["of_user"], hidden["user"])
    assert torch.equal(hidden["of_item"], hidden["item"])
    assert "of_brand" not in hidden  # what is said of its brand holds for a new item too
    everywhere = torch.ones(len(batch["row"]), dtype=torch.bool)
    new = {**batch, "of_user": torch.zeros_like(batch["of_user"]), "user": torch.full_like(batch["user"], 2)}
    masked = model(batch, {"of_user": everywhere, "user": everywhere}).logits["click"]
    assert torch.equal(masked, model(new).logits["click"])
    assert not torch.equal(masked, model(batch).logits["click"])
