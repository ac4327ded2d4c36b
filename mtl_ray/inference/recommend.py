"""Recommend items to many users."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mtl_ray.config.custom import Trust
from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.data.sources.csv_dialect import dialect_of
from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError, some
from mtl_ray.inference.batch import map_rows, read_whole
from mtl_ray.inference.batch_result import BatchResult
from mtl_ray.models import checkpoint
from mtl_ray.scoring.recommender import Recommender
from mtl_ray.values.keys import flat, to_keys


class Seen:
    """The items that each user has seen and is not to be shown again."""

    def __init__(self, table: pa.Table, recommender: Recommender) -> None:
        """Read interactions. Raises InputError if an id column is missing."""
        for column in (recommender.user_column, recommender.item_column):
            if column not in table.column_names:
                raise InputError(f"--seen: expected a column `{column}`; found {some(table.column_names)}")
        users, items = (to_keys(table.column(c)) for c in (recommender.user_column, recommender.item_column))
        order = np.argsort(users.fill_null("").to_numpy(zero_copy_only=False).astype(str), kind="stable")
        users, self._items = users.take(pa.array(order)), items.take(pa.array(order))
        runs = users.dictionary_encode()
        sizes = np.bincount(runs.indices.fill_null(0).to_numpy(), minlength=len(runs.dictionary))
        ends = np.cumsum(sizes)
        self._bounds = dict(zip(runs.dictionary.to_pylist(), zip(ends - sizes, sizes, strict=True), strict=True))

    def of_one(self, user: Any) -> list[str]:
        """Return the keys of the items that a user has seen, by raw user id."""
        return self.of(to_keys(pa.array([None if user is None else str(user)], pa.string()))[0].as_py()).to_pylist()

    def of(self, user: str | None) -> pa.Array:
        """Return the keys of the items that a user has seen, by key of the user."""
        start, size = self._bounds.get(user, (0, 0))
        return self._items.slice(int(start), int(size))


def load_recommender(model: Path, items: str | None, task: str | None, trust: Trust = False) -> Recommender:
    """Load a recommender whose candidates are in a file, folder or glob, or else those that the model carries."""
    candidates = read_whole(items, dialect_of(checkpoint.load_settings(model).data.source)) if items else None
    return Recommender(model, candidates, task, trust)


def read_seen(location: str, recommender: Recommender) -> Seen:
    """Read interactions that are not to be recommended from a file, folder or glob."""
    return Seen(read_whole(location, dialect_of(recommender.scorer.experiment.data.source)), recommender)


class _Recommend:
    """Maps rows of users to rows of their best items."""

    def __init__(
        self, model: Path, items: str | None, task: str | None, k: int, seen: str | None, trust: Trust
    ) -> None:
        self.recommender = load_recommender(model, items, task, trust)
        self.seen = read_seen(seen, self.recommender) if seen else None
        self.k = k

    def bad_rows(self, table: pa.Table) -> pa.Array:
        return bad_inputs(self.recommender.scorer.experiment, table)

    def __call__(self, users: pa.Table) -> pa.Table:
        ids = users.column(self.recommender.user_column)
        seen = None if self.seen is None else [self.seen.of(user) for user in to_keys(ids).to_pylist()]
        ranked = self.recommender.rank(users, self.k, seen)
        return ranked.set_column(0, self.recommender.user_column, flat(ids).take(ranked.column("row")))


def recommend(
    model: Path,
    users: str,
    output: str,
    items: str | None = None,
    task: str | None = None,
    k: int = 10,
    seen: str | None = None,
    trust: Trust = False,
) -> BatchResult:
    """Write the best k items of every user of a Parquet or CSV file, folder or glob, as Parquet.

    Args:
        model: checkpoint folder.
        users: raw rows of users; columns that the model does not know are ignored.
        output: folder to make; a row has the user's id, rank, the item's id, score, and name where items have one.
        items: raw rows of the candidates; by default those that the registered model carries.
        task: what to rank by, see `Recommender`.
        k: items for a user.
        seen: interactions (user id, item id) that are not to be recommended; read whole by every process.
        trust: the `custom` classes that the model may import, see `checkpoint.load`.

    Raises:
        InputError: an input is missing or lacks its id column, or `output` is not empty.
    """
    recommender = load_recommender(model, items, task, trust)
    recommender.scorer.check(str(model))
    log = open_log(users, dialect=dialect_of(recommender.scorer.experiment.data.source))
    if recommender.user_column not in log.columns:
        raise InputError(
            f"{users}: expected a column `{recommender.user_column}`, the id of the user; found {some(log.columns)}"
        )
    if seen:
        read_seen(seen, recommender)
    chosen = {"items": items, "task": task, "k": k, "seen": seen}
    job = {"command": "recommend", "model": recommender.scorer.digest, **chosen}
    num_rows = log.num_rows * len(recommender.keys)  # of pairs, each of which gets a score
    return map_rows(users, log, output, _Recommend, model, (*chosen.values(), trust), job, num_rows)
