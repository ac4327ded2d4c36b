"""The number of epochs, chosen on training rows that are held out where the split has no validation rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mtl_ray.config import Experiment, override
from mtl_ray.config.data import TimeSplitConfig
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import read_directly, to_batch
from mtl_ray.schema import ITEM_SUPPORT, USER_SUPPORT
from mtl_ray.training.kept_epoch import chooses_epochs
from mtl_ray.training.recipe import completed
from mtl_ray.training.single_process import Training

COLD = 0.3
"""Share of a user's or an item's rows in training below which its test rows are cold."""
ALMOST_ALL = 0.9
"""Share of the cold test rows from which on they are said to be those of users, or of items, alone."""


def training_of(experiment: Experiment, prepare: Callable[[Experiment], Prepared]) -> Training:
    """Return what is trained in one process: settings completed by the recipe, with the training that comes first.

    Args:
        experiment: what the file says.
        prepare: makes, or finds, the data set of an experiment.
    """
    prepared, first = prepare(experiment), None
    experiment = completed(experiment, prepared.schema)
    if chooses_epochs(experiment):
        held_out = on_holdout(experiment, prepared)
        first = Training(held_out, prepare(held_out))
    return Training(experiment, prepared, first)


def on_holdout(experiment: Experiment, prepared: Prepared) -> Experiment:
    """Return the experiment with validation rows that are cut from the training rows as the test rows are from all.

    Of an ensemble, it is that of a single model.
    """
    changes = {"data.holdout": holdout_like_test(experiment, prepared), "training.ensemble": 1}
    return override(experiment, {**changes, "tracking.register_as": None})


def holdout_like_test(experiment: Experiment, prepared: Prepared) -> dict[str, Any]:
    """Return the settings `data.holdout` by which validation rows are to training rows what test rows are to all.

    Under the time split they are the last rows. If most test rows are those of users (items, or of either, or of both)
    that training hardly knows, they are rows of whole users (items), of which the same share stays in training. Else
    they are any rows.
    """
    if isinstance(experiment.data.split, TimeSplitConfig):
        return {"kind": "time"}
    users = _known(prepared, experiment.user, USER_SUPPORT)
    items = _known(prepared, experiment.item, ITEM_SUPPORT)
    cold_users, cold_items = users < COLD, items < COLD
    share = float(np.mean(cold_users | cold_items)) if len(users) else 0.0
    if share < 0.5:
        return {"kind": "rows"}
    if np.mean(cold_users & cold_items) > 0.5:
        return {"kind": "both", "share": 0.2}
    for kind, known, cold in (("users", users, cold_users), ("items", items, cold_items)):
        if np.mean(cold) > ALMOST_ALL * share:
            return {"kind": kind, "kept": _kept(known)}
    return {"kind": "either", "kept": _kept(np.minimum(users, items))}


def _known(prepared: Prepared, key: str, support: str) -> np.ndarray:
    """Return (n,) for each test row: the share of the rows of its user (item) that are training rows."""
    folder = prepared.folder / "test"
    parts = [to_batch(table) for table in read_directly(folder, folder.files(".parquet"), [key, support])]
    if not parts:
        return np.empty(0)
    ids, supports = (torch.cat([part[name] for part in parts]).numpy() for name in (key, support))
    _, place, tested = np.unique(ids, return_inverse=True, return_counts=True)
    return supports / (supports + tested[place])


def _kept(known: np.ndarray) -> float:
    """Return the share of the rows of cold users (items) that are training rows."""
    known = known[known < COLD]
    in_training = float((known / (1 - known)).sum())
    return round(in_training / (in_training + len(known)), 3)
