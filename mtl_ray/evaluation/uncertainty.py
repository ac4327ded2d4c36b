"""Reliability of metrics and predictions: intervals of metrics over users, calibration of predictions."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtl_ray.config.tasks import TaskConfig, first_metric
from mtl_ray.evaluation.segments import compute
from mtl_ray.evaluation.significance import jackknife_interval
from mtl_ray.schema import USER_KEY, label_column, segment_key
from mtl_ray.tasks.base import TaskHead

GROUPS, FEWEST = 20, 5
"""Groups of users for an interval, and the fewest users of which there is one."""

BINS, ROWS_A_BIN = 10, 20
"""Largest number of bins for the calibration of a task, and fewest rows in a bin."""


class Bin(NamedTuple):
    """Rows with similar predictions.

    Example:
        >>> Bin(predicted=0.11, observed=0.1, error=0.02, rows=225).rows
        225
    """

    predicted: float
    """Mean prediction."""
    observed: float
    """Mean label."""
    error: float
    """Standard error of the mean label."""
    rows: int


def intervals(
    tasks: Mapping[str, TaskHead], rows: Mapping[str, Tensor], segments: Mapping[str, Tensor], split: str
) -> dict[str, tuple[float, float]]:
    """Return 95% intervals of each task's first metric, by key `split/task/metric[/segment]`.

    They are `jackknife_interval` over `GROUPS` groups of users, not of rows, since a user's rows are alike. A segment
    with fewer than `FEWEST` users, or in which the metric of a group is not defined, has no interval.

    Args:
        tasks: heads of the tasks, by name.
        rows: predictions `NAME`, labels and user keys of all rows of the split.
        segments: (n,) bool by name of the segment; "" for all rows.
        split: first part of the keys.

    Example:
        >>> from mtl_ray.config.tasks import BinaryTaskConfig
        >>> from mtl_ray.tasks import Binary
        >>> users = torch.arange(400) % 40
        >>> label = (torch.arange(400) % 3 == 0).float()
        >>> rows = {"click": torch.arange(400) / 400, label_column("click"): label, USER_KEY: users}
        >>> found = intervals({"click": Binary(BinaryTaskConfig(metrics=("auc",)))}, rows, {"": users >= 0}, "test")
        >>> low, high = found["test/click/auc"]
        >>> low < 0.5 < high
        True
    """
    found = {}
    for name, task in tasks.items():
        metric, label = first_metric(task.spec), rows[label_column(name)]
        for segment, inside in segments.items():
            index = torch.nonzero(task.labelled(label) & inside)[:, 0]
            interval = _interval(metric, task.spec, rows[name][index].double(), label[index], rows[USER_KEY][index])
            if interval is not None:
                found[segment_key(split, name, metric, segment or "all")] = interval
    return found


def _interval(
    metric: str, task: TaskConfig, prediction: Tensor, label: Tensor, users: Tensor
) -> tuple[float, float] | None:
    keys, user = torch.unique(users, return_inverse=True)  # keys are hashes: their order is random
    number = min(GROUPS, len(keys))
    if number < FEWEST:
        return None
    group = user % number
    kept: Iterable[Tensor] = (group != g for g in range(number))
    every = [compute(metric, task, prediction[k], label[k], users[k]) for k in (torch.ones_like(user) > 0, *kept)]
    values = [value for value in every if value is not None and not math.isnan(value)]
    return jackknife_interval(values[0], values[1:]) if len(values) == number + 1 else None


def calibration(tasks: Mapping[str, TaskHead], rows: Mapping[str, Tensor]) -> dict[str, list[Bin]]:
    """Return, for each task whose prediction estimates its label, bins of similar predictions and of similar size.

    Args:
        tasks: heads of the tasks, by name.
        rows: (n,) predictions `NAME` and labels `NAME.label` of all rows of a split.

    Example:
        >>> from mtl_ray.config.tasks import BinaryTaskConfig
        >>> from mtl_ray.tasks import Binary
        >>> rows = {"click": torch.full((20,), 0.25), "click.label": torch.tensor([1.0, 0.0, 0.0, 0.0] * 5)}
        >>> (found,) = calibration({"click": Binary(BinaryTaskConfig())}, rows)["click"]
        >>> found.predicted, found.observed, found.rows
        (0.25, 0.25, 20)
    """
    found = {}
    for name, task in tasks.items():
        if not task.spec.estimates_label:
            continue
        label = rows[label_column(name)]
        mask = task.labelled(label)
        prediction, observed = rows[name][mask].double().numpy(), label[mask].double().numpy()
        number = min(BINS, len(observed) // ROWS_A_BIN)
        if number:
            order = np.argsort(prediction, kind="stable")
            found[name] = [_bin(prediction[part], observed[part]) for part in np.array_split(order, number)]
    return found


def _bin(prediction: np.ndarray, label: np.ndarray) -> Bin:
    error = float(label.std(ddof=1) / math.sqrt(len(label)))
    return Bin(float(prediction.mean()), float(label.mean()), error, len(label))
