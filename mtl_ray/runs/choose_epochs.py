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
"""Share of the rows of the tested users, or items, below which they are held out as wholes."""


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

    Under the time split they are the last rows. If most rows of the users (items, or both) of the test rows are test
    rows, they are rows of whole users (items), of which the same share stays in training. Else they are any rows.
    """
    if isinstance(experiment.data.split, TimeSplitConfig):
        return {"kind": "time"}
    kept = {
        entity: _share_in_training(prepared, key, support)
        for entity, key, support in (
            ("users", experiment.user, USER_SUPPORT),
            ("items", experiment.item, ITEM_SUPPORT),
        )
    }
    cold = [entity for entity, share in kept.items() if share < COLD]
    if not cold:
        return {"kind": "rows"}
    if len(cold) == 2:
        return {"kind": "both", "share": 0.2}
    return {"kind": cold[0], "kept": round(kept[cold[0]], 3)}


def _share_in_training(prepared: Prepared, key: str, support: str) -> float:
    """Return the share of training rows among those of the users (items) of the test rows."""
    folder = prepared.folder / "test"
    parts = [to_batch(table) for table in read_directly(folder, folder.files(".parquet"), [key, support])]
    if not parts:
        return 1.0
    ids, supports = (torch.cat([part[name] for part in parts]).numpy() for name in (key, support))
    first = np.unique(ids, return_index=True)[1]
    in_training = float(supports[first].sum())
    return in_training / (in_training + len(ids))
