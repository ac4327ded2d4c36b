"""A check for leaks: how much of the tested users and items fitting saw, read back from the finished data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config import Experiment
from mtl_ray.config.data import ColdSplitConfig
from mtl_ray.data.preparation.parallel import MapPieces
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.features.base import feature_kinds
from mtl_ray.schema import FIRST, UNKNOWN, USER_KEY
from mtl_ray.storage import Folder
from mtl_ray.values.keys import flat, hash_keys, to_keys
from mtl_ray.values.vocabulary import VOCABULARY

FILES_AT_ONCE = 16


def leakage_report(experiment: Experiment, folder: Folder, map_pieces: MapPieces) -> dict[str, Any]:
    """Count the tested users and items, and those among them that fitting saw.

    By `user` and `item`: how many are `tested`, `in the vocabulary`, `in training rows` and, for items, `in histories
    of training rows`, for users `in audiences of training rows` if the model reads audiences. Vocabularies hold all
    that is fitted by key.

    Raises:
        RuntimeError: the cold split holds out all tested entities of a kind, and fitting saw one.
    """
    vocabulary = folder.read_table(VOCABULARY)
    histories, audiences = (
        [name for name, kind in feature_kinds(experiment).items() if kind.lists_ids_of == entity]
        for entity in ("item", "user")
    )
    files = [path.rpartition("/")[2] for path in (folder / "train").files(".parquet")]
    seen = _Seen(folder / "train", files, experiment.item, histories, audiences)
    parts = map_pieces(seen, range(0, len(files), FILES_AT_ONCE))
    seen_users, seen_items, in_histories, in_audiences = reduce(lambda a, b: [*map(np.union1d, a, b)], parts)
    report = {}
    for entity, name in (("user", experiment.user), ("item", experiment.item)):
        tested = _tested(experiment, folder, name)
        known = vocabulary.filter(pc.equal(vocabulary.column("feature"), name)).column("value")
        rows = pc.index_in(tested, value_set=flat(known)).fill_null(-1).to_numpy(zero_copy_only=False)
        rows = np.where(rows < 0, UNKNOWN, rows + FIRST)
        known_rows = rows[rows >= FIRST]
        counts = {"tested": len(tested), "in the vocabulary": len(known_rows)}
        if entity == "user":
            counts["in training rows"] = int(np.isin(hash_keys(tested).astype(np.int64), seen_users).sum())
            if audiences:
                counts["in audiences of training rows"] = int(np.isin(known_rows, in_audiences).sum())
        else:
            counts["in training rows"] = int(np.isin(known_rows, seen_items).sum())
            counts["in histories of training rows"] = int(np.isin(known_rows, in_histories).sum())
        report[entity] = counts
        found = [f"{number} {where}" for where, number in counts.items() if where != "tested" and number]
        if found and entity in _held_out(experiment):
            raise RuntimeError(f"leak: of {len(tested)} held-out {entity}s, {', '.join(found)}; please report this")
    return report


@dataclass(frozen=True)
class _Seen:
    """A function that reads some files: distinct keys of users, rows of items, and rows of items in histories and of
    users in audiences."""

    folder: Folder
    files: list[str]
    item: str
    histories: list[str]
    audiences: list[str]

    def __call__(self, first: int) -> list[np.ndarray]:
        files = self.files[first : first + FILES_AT_ONCE]
        columns = [USER_KEY, self.item, *self.histories, *self.audiences]
        table = pa.concat_tables(self.folder.read_table(file, columns=columns) for file in files)
        listed = (
            [flat(table.column(name)).flatten().to_numpy() for name in names]
            for names in (self.histories, self.audiences)
        )
        users, items = (table.column(name).to_numpy() for name in (USER_KEY, self.item))
        return [pd.unique(users), _distinct([items]), *map(_distinct, listed)]


def _distinct(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return, ascending, the embedding rows that occur in any of the arrays; faster than sorting or hashing them."""
    found = np.zeros(1 + max((array.max(initial=0) for array in arrays), default=0), bool)
    for array in arrays:
        found[array] = True
    return np.flatnonzero(found)


def _tested(experiment: Experiment, folder: Folder, name: str) -> pa.Array:
    """Return the distinct keys of the test rows."""
    if not (folder / RAW_TEST).exists():
        return pa.array([], pa.string())
    column = experiment.column_of(name)
    files = [path.rpartition("/")[2] for path in (folder / RAW_TEST).files(".parquet")]
    keys = [to_keys((folder / RAW_TEST).read_table(file, columns=[column]).column(column)) for file in files]
    return pc.unique(pa.chunked_array(keys, pa.string()))


def _held_out(experiment: Experiment) -> set[str]:
    """Return the entities of which every tested one must be new to the model."""
    split = experiment.data.split
    if not isinstance(split, ColdSplitConfig) or split.shown_to == "training":
        return set()
    users, items = split.valid_users or split.test_users, split.valid_items or split.test_items
    return {"user"} if users and not items else {"item"} if items and not users else set()
