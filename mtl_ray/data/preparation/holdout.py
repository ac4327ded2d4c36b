"""Validation rows that are cut from the training rows of a split without any, see `data.holdout`."""

import numpy as np
import pyarrow as pa

from mtl_ray.config import Experiment
from mtl_ray.counter_rng import Stream, mix, uniform_keys
from mtl_ray.data.preparation.split import Cuts
from mtl_ray.values.keys import hash_keys, to_keys
from mtl_ray.values.partition import ITEM, NONE, TIME, TRAIN, USER, VALID


def hold_out(experiment: Experiment, table: pa.Table, draw: np.ndarray, split: np.ndarray, cuts: Cuts) -> np.ndarray:
    """Return (n,) int8 split codes, with some training rows turned into validation rows.

    Args:
        experiment: `data.holdout` and `data_seed` decide.
        table: keys and time of the rows.
        draw: (n,) see `row_draw`.
        split: (n,) int8 split codes without validation rows.
        cuts: see `Cuts`.
    """
    holdout, seed, train = experiment.data.holdout, experiment.data_seed, split == TRAIN
    if holdout is None:
        return split
    rows = uniform_keys(mix(draw.view(np.uint64), Stream.HOLDOUT), seed)
    if holdout.kind == "time":
        assert cuts.holdout is not None
        return np.where(train & (table.column(TIME).to_numpy() >= cuts.holdout), VALID, split).astype(np.int8)
    if holdout.kind == "rows":
        return np.where(train & (rows < holdout.share), VALID, split).astype(np.int8)
    new = [
        uniform_keys(mix(hash_keys(to_keys(table.column(key))), Stream.HOLDOUT + code), seed) < holdout.share
        for code, (key, kind) in enumerate(((USER, "users"), (ITEM, "items")))
        if holdout.kind in (kind, "either", "both")
    ]
    held = np.any(new, 0) & (rows >= holdout.kept)
    evaluated = np.all(new, 0) if holdout.kind == "both" else held
    return np.where(train & held, np.where(evaluated, VALID, NONE), split).astype(np.int8)
