"""A check for inputs that nearly tell a label, such as a path that holds the category that is to be predicted.

A rule from one input alone is chosen on about half of a sample of the training rows and tried on the other half. The
halves share no user where the input belongs to the user, and no item where it belongs to the item: else a price would
tell the category of its item.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_ray.config import Experiment
from mtl_ray.config.tasks import BinaryTaskConfig, MulticlassTaskConfig, RankingTaskConfig, RealTaskConfig
from mtl_ray.config.visibility import hidden_by
from mtl_ray.counter_rng import Stream, mix, uniform_keys
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.preparation.one_input_rules import reached, tokens_of
from mtl_ray.schema import USER_KEY, label_column

ROWS = 20_000
"""Most rows of the sample: of each half, enough to see an accuracy to a thousandth."""
CELLS = 5_000_000
"""Most values of the sample, each counted for all tasks that read it: about half a second's work."""
FEWEST = 1_000
"""Fewest rows that are worth a look. With thousands of inputs and hundreds of tasks a sample within `CELLS` has fewer,
and nothing is looked for."""
ROW_DRAW = "draw"
Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sampler:
    """A function that returns a sample of a partition's training rows; all of them together do not depend on how the
    log is cut into partitions."""

    columns: tuple[str, ...]
    share: float
    """Share of the training rows to draw; 0 for none."""

    @classmethod
    def of(cls, encoder: Encoder) -> "Sampler":
        """Choose the columns, and as large a share as is worth its time."""
        read = _pairs(encoder)
        width = {name: shape[0] if shape else 1 for name, (_, shape) in _columns(encoder).items()}
        cells = sum(len(tasks) * width[name] for name, tasks in read.items())
        rows = min(ROWS, CELLS // max(1, cells))
        labels = {label_column(task) for tasks in read.values() for task in tasks}
        columns = (*dict.fromkeys([USER_KEY, encoder.experiment.item, *read, *sorted(labels)]),)
        return cls(columns, rows / max(1, encoder.schema.num_rows["train"]) if read and rows >= FEWEST else 0.0)

    def __call__(self, columns: Rows, draw: np.ndarray, positions: np.ndarray) -> Rows:
        """Return the sampled rows at the positions of training rows.

        Args:
            columns: encoded columns of a partition.
            draw: (n,) the draw of each row, see `row_draw`.
            positions: of the training rows.
        """
        number = (draw[positions] * (1 << 53)).astype(np.uint64)
        is_drawn = uniform_keys(number, Stream.SAMPLE) < self.share  # its own draw: the split may follow the row's
        drawn = positions[is_drawn]
        return {ROW_DRAW: number[is_drawn]} | {name: columns[name][drawn] for name in self.columns}


def giveaways(encoder: Encoder, samples: Iterable[Rows]) -> list[dict[str, Any]]:
    """Return the pairs of an input and a task whose label it nearly tells, the worst first.

    Args:
        encoder: of the data set.
        samples: what `Sampler` returns, of all partitions with training rows.

    Returns:
        By pair the `feature`, the `task` and, on the rows that did not choose the rule, for classes the `accuracy` of
        the rule and of the most frequent label (`constant`), for numbers the share of the variance that the rule
        explains (`explained`).
    """
    parts = [part for part in samples if len(part[ROW_DRAW])]
    if not parts:
        return []
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = []
    for feature, tasks in _pairs(encoder).items():
        owner = rows[_owner(encoder.experiment, feature)]
        chosen = (mix(owner, Stream.SAMPLE) & np.uint64(1)).astype(bool)
        tokens = tokens_of(rows[feature], chosen)
        for task in tasks:
            result = _result(encoder.experiment, task, tokens, rows[label_column(task)], chosen, owner)
            if result is not None:
                found.append({"feature": feature, "task": task, **result})
    return sorted(found, key=lambda pair: -max(pair.get("accuracy", 0), pair.get("explained", 0)))


def _result(
    experiment: Experiment, task: str, tokens: np.ndarray, labels: np.ndarray, chosen: np.ndarray, owner: np.ndarray
) -> dict[str, float] | None:
    """Return what the rule of an input reaches, None if it does not nearly tell the label."""
    is_number = isinstance(experiment.tasks[task], RealTaskConfig)
    numbers = np.where(labels < 0, np.nan, labels) if labels.dtype.kind == "i" else labels
    return reached(tokens, numbers.astype(np.float64), chosen, owner, is_number=is_number)


def _columns(encoder: Encoder) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of the inputs that rules can read: a value, a list of values, a number.

    Histories and audiences never hold the row itself, and nothing is known of single numbers of a vector.
    """
    found = {}
    for name, kind in encoder.kinds.items():
        column = kind.encoded_columns(encoder.state.features[name])[name]
        is_readable = column.dtype == "int32" or not column.shape
        if encoder.experiment.features[name].is_input and kind.lists_ids_of is None and is_readable:
            found[name] = (column.dtype, column.shape)
    return found


def _pairs(encoder: Encoder) -> dict[str, list[str]]:
    """Return the tasks that each input may tell: those from which it is not hidden."""
    experiment = encoder.experiment
    kinds = (RealTaskConfig, BinaryTaskConfig, RankingTaskConfig, MulticlassTaskConfig)
    tasks = {name: task for name, task in experiment.tasks.items() if isinstance(task, kinds)}
    hidden = {name: hidden_by(experiment.features, name, task) for name, task in tasks.items()}
    pairs = {name: [task for task, unseen in hidden.items() if name not in unseen] for name in _columns(encoder)}
    return {name: tasks for name, tasks in pairs.items() if tasks}


def _owner(experiment: Experiment, feature: str) -> str:
    """Return the column whose values are dealt to the halves: an id is to be known in both, so its rows are dealt."""
    if feature in (experiment.user, experiment.item):
        return ROW_DRAW
    return {"user": USER_KEY, "item": experiment.item}.get(experiment.features[feature].entity, ROW_DRAW)
