"""Biases of ids on a log that is made of nothing else."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mtl_ray.config import Experiment, override, parse
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.training.trainer import Trainer
from tests.support import shard

USERS = ITEMS = 1500
EPOCHS = 7


def log() -> pd.DataFrame:
    """One to four rows of each user with items at random: a rating is a user's bias, an item's bias and noise."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), rng.integers(1, 5, USERS))
    item = rng.integers(ITEMS, size=len(user))
    levels = rng.normal(0, 0.7, (2, USERS))
    rating = levels[0, user] + levels[1, item] + rng.normal(0, 1, len(user))
    frame = pd.DataFrame({"user": [f"u{n}" for n in user], "item": [f"i{n}" for n in item], "rating": rating})
    return frame.drop_duplicates(["user", "item"], ignore_index=True)


def experiment_of(folder: Path) -> Experiment:
    log().to_csv(folder / "log.csv", index=False)
    masked = {entity: {"new": 0.0} for entity in ("user", "item")}
    tree = {
        "name": "levels",
        "data": {
            "source": {"kind": "table", "interactions": "log.csv"},
            "raw": str(folder),
            "output": str(folder / "out"),
            "split": {"kind": "random", "test": 0.25, "valid": 0.0},
        },
        "features": {"user": {"kind": "id", "entity": "user"}, "item": {"kind": "id", "entity": "item"}},
        "tasks": {"rating": "regression"},
        "model": {
            "embedding_dim": 8,
            "embedding_dropout": 0.3,
            "encoder": {"hidden": [16]},
            "tower": {"hidden": [8]},
            "id_bias_prior": 3.0,
        },
        "training": {
            "batch_size": 64,
            "epochs": EPOCHS,
            "optimizer": {"lr": 0.02, "embedding_weight_decay": 10.0},
            "masking": masked,
        },
    }
    return parse(tree, "test")


def rmse(experiment: Experiment, prepared: Prepared) -> list[float]:
    """The error on held-out rows after each epoch."""
    trainer, errors = Trainer(experiment, prepared.schema, torch.device("cpu")), []
    for _ in range(EPOCHS):
        trainer.epoch(shard(prepared, "train"))
        errors.append(trainer.evaluate(shard(prepared, "test"))["test/rating/rmse"])
    return errors


def test_a_model_with_biases_predicts_held_out_rows_of_rare_ids_better(tmp_path: Path):
    experiment = experiment_of(tmp_path)
    prepared = prepare(experiment, echo=lambda _: None)
    without, with_biases = (rmse(override(experiment, {"model.id_bias": flag}), prepared) for flag in (False, True))
    assert min(with_biases) < min(without) - 0.05
