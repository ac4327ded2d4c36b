"""Recommend the best items to a user who is known, or described by a profile alone. It does not import Ray."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from mtl_ray.config.custom import Trust
from mtl_ray.data.item_catalog import ITEMS
from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.errors import InputError
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder
from mtl_ray.values.canonical import from_cells
from mtl_ray.values.keys import flat, to_keys
from mtl_ray.values.vectors import is_lists

NAMES = ("title", "name", "caption")
"""Endings of a column that names an item."""

RANK, SCORE, ITEM_NAME = "rank", "score", "name"
"""Columns of a result beside the ids."""


class Recommender:
    """A ranking of a fixed set of candidates, which are encoded once, by a task's prediction."""

    def __init__(
        self, model: Path | Scorer, items: pa.Table | None = None, task: str | None = None, trust: Trust = False
    ) -> None:
        """Load a model and encode the candidates.

        Args:
            model: checkpoint folder, see `registry.checkpoint_folder`, or what was loaded from one.
            items: raw rows of the candidates; by default those that the registered model carries.
            task: what to rank by, a task whose prediction is one number; by default the first that is not about a
                profile.
            trust: the `custom` classes that the model may import, see `checkpoint.load`.

        Raises:
            InputError: no such model or task, no candidates, or their id column is missing.
        """
        self.scorer = model if isinstance(model, Scorer) else Scorer(model, trust)
        experiment = self.scorer.experiment
        self.user_column = experiment.column_of(experiment.user)
        self.item_column = experiment.column_of(experiment.item)
        self.task = self._task(task)
        candidates = self._carried(self.scorer.folder) if items is None else items
        if self.item_column not in candidates.column_names:
            raise InputError(
                f"items: expected a column `{self.item_column}`, the id of the item; "
                f"found {', '.join(candidates.column_names)}"
            )
        keys = to_keys(candidates.column(self.item_column))
        first = pc.and_(keys.is_valid(), pa.array(_is_first(keys)))
        self.items, self.keys = candidates.filter(first), keys.filter(first)
        if not len(self.keys):
            raise InputError("items: expected at least one item to choose from; found none")
        named = [n for n in candidates.column_names if n.lower().endswith(NAMES) and n != self.item_column]
        self.names = flat(self.items.column(named[0])).cast(pa.string()) if named else None
        self._own = [name for name, feature in experiment.features.items() if feature.entity == "item"]
        self._others = [name for name in experiment.features if name not in self._own]
        self._candidates = self.scorer.inputs(self.items, self._own)

    @staticmethod
    def _carried(folder: Path) -> pa.Table:
        if not (folder / ITEMS).is_file():
            raise InputError(f"{folder}: the model carries no items to choose from; give them with --items")
        return Folder(str(folder)).read_table(ITEMS)

    def user_columns(self) -> list[str]:
        """Return the raw columns that describe a user and the context; histories are item ids, oldest first."""
        kinds = self.scorer.encoder.kinds
        own, others = (
            {column for name in names for column in kinds[name].input_columns()} for names in (self._own, self._others)
        )
        return [name for name in self.scorer.input_columns() if name not in own or name in others]

    def recommend(self, profile: Mapping[str, Any], k: int = 10, seen: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the best k items for one user, the best first.

        Args:
            profile: raw columns of the user, any of `user_columns`; the items of a history are not recommended.
            k: number of items; the result is shorter if there are fewer.
            seen: ids of items to leave out.

        Returns:
            For each item its id as `item_column`, `rank` from 1, `score` (the task's prediction) and `name`.

        Raises:
            InputError: an unknown column, or a value of the wrong kind.
        """
        known = self.user_columns()
        for name in profile:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"known columns: {', '.join(known)}"
                raise InputError(f"profile: unknown column `{name}`; {hint}")
        try:
            user = pa.table(
                {name: from_cells([value]) for name, value in profile.items()} or {self.user_column: [None]}
            )
            (reason,) = bad_inputs(self.scorer.experiment, user).to_pylist()
            if reason:
                raise ValueError(reason)
            ranked = self.rank(user, k, [to_keys(pa.array([str(item) for item in seen], pa.string()))])
        except (ValueError, pa.ArrowException) as error:
            raise InputError(f"profile: {' '.join(str(error).split())}") from None
        return ranked.drop_columns(["row"]).to_pylist()

    def rank(self, users: pa.Table, k: int, seen: Sequence[pa.Array] | None = None) -> pa.Table:
        """Return the best k items of each of n users.

        Args:
            users: (n,) raw rows of users.
            k: number of items.
            seen: for each user, keys of items to leave out in addition to the history's.

        Returns:
            A table of (row of `users`, rank, item id, score[, name]), sorted by user and rank.

        Raises:
            ValueError: a value of a numeric column is not a number.
        """
        encoded = self.scorer.inputs(users, self._others)
        parts = []
        for row in range(len(users)):
            order, scores = self._order({name: column[row : row + 1] for name, column in encoded.items()})
            order = order[~np.isin(order, self._excluded(users.slice(row, 1), seen[row] if seen else None))][:k]
            part = {
                "row": pa.array(np.full(len(order), row)),
                RANK: pa.array(np.arange(1, len(order) + 1)),
                self.item_column: self.keys.take(pa.array(order)),
                SCORE: pa.array(scores[order]),
            }
            parts.append(
                pa.table(part if self.names is None else {**part, ITEM_NAME: self.names.take(pa.array(order))})
            )
        return pa.concat_tables(parts)

    @torch.no_grad()
    def _order(self, user: Mapping[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of the candidates, best first, and each candidate's prediction, (m,) and (m,).

        The user's columns have a single row, so a history is embedded once, not once per candidate.
        """
        model, size = self.scorer.model, self.scorer.experiment.evaluation.batch_size
        logits = []
        for start in range(0, len(self.keys), size):
            batch = {name: column[start : start + size] for name, column in self._candidates.items()}
            logits.append(model.evaluation_logits({**batch, **user}, [self.task])[self.task])
        whole = torch.cat(logits)
        scores = model.tasks[self.task].predict(whole).double().numpy()
        # Predictions may be clipped to their range; the logits still tell such items apart.
        return np.lexsort((-whole.sum(1).numpy(), -scores)), scores

    def _excluded(self, user: pa.Table, seen: pa.Array | None) -> np.ndarray:
        lists = [kind.raw(user) for kind in self.scorer.encoder.kinds.values() if kind.lists_ids_of == "item"]
        keys = [to_keys(values.flatten()) for values in lists if is_lists(values.type)]
        everything = pa.concat_arrays([key.cast(pa.string()) for key in [*keys, *([] if seen is None else [seen])]])
        return np.flatnonzero(np.asarray(pc.is_in(self.keys, value_set=everything)))

    def _task(self, task: str | None) -> str:
        tasks = self.scorer.experiment.tasks
        rankable = [name for name, t in tasks.items() if t.predicts_number]
        if task is None:
            task = next((name for name in rankable if not tasks[name].masked_input), None)
        if task not in rankable:
            raise InputError(f"--task: expected one of {', '.join(rankable) or 'none'}; found {task or 'none'}")
        return task


def _is_first(keys: pa.Array) -> np.ndarray:
    """Return (n,) bool: whether the key is in no earlier row."""
    _, first = np.unique(np.array(keys.fill_null("").to_pylist(), dtype=object).astype(str), return_index=True)
    flags = np.zeros(len(keys), bool)
    flags[first] = True
    return flags
