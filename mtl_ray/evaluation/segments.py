"""Metrics of one task per segment, exact: from rows already gathered over ranks, with row counts beside them."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.tasks import TaskConfig, metric_names, own_metric
from mtl_ray.config.training import EvaluationConfig
from mtl_ray.evaluation.metrics import metric_of
from mtl_ray.evaluation.roc_auc import SortedRows
from mtl_ray.schema import Segment, segments

BUCKETS = EvaluationConfig().support_buckets


def segment_masks(
    user_support: Tensor | ArrayLike, item_support: Tensor | ArrayLike, among: Sequence[Segment] | None = None
) -> dict[str, Tensor]:
    """Return (n,) bool by segment name.

    Args:
        user_support: (n,) training interactions of each row's user.
        item_support: (n,) training interactions of each row's item.
        among: the segments; by default those of `evaluation.support_buckets`, 0, 1-4, 5-19 and 20 or more.

    Example:
        >>> masks = segment_masks([0, 12, 0], [7, 0, 0])
        >>> masks["new_user"]  # and the item is known
        tensor([ True, False, False])
        >>> list(masks)[:6]
        ['warm', 'new_user', 'new_item', 'new_both', 'user_support_0', 'item_support_0']
    """
    users, items = _tensor(user_support), _tensor(item_support)
    masks = {}
    for segment in segments(BUCKETS) if among is None else among:
        mask = torch.ones(len(users), dtype=torch.bool)
        for support, bounds in ((users, segment.users), (items, segment.items)):
            if bounds is not None:
                low, high = bounds
                mask &= (support >= low) & ((support < high) if high is not None else True)
        masks[segment.name] = mask
    return masks


def evaluate_task(
    name: str,
    task: TaskConfig,
    *,
    prediction: Tensor | ArrayLike,
    label: Tensor | ArrayLike,
    mask: Tensor | None = None,
    users: Tensor | ArrayLike,
    segments: Mapping[str, Tensor] = MappingProxyType({}),
) -> tuple[dict[str, float], dict[str, int]]:
    """Return metrics `task/metric[/segment]` and row counts `task/count[/segment]`.

    A metric that a segment does not define (no row, one class only) is left out; the count says why.

    Args:
        name: the task's name.
        task: its settings; `metrics` or the defaults of its kind are computed.
        prediction: (n,) or (n, C) on the natural scale.
        label: (n,) or (n, C).
        mask: (n,) bool, rows that have a label; all by default.
        users: (n,) int64 number of each row's user, from 0; of what is no tensor any key.
        segments: (n,) bool by segment, see `segment_masks`.

    Example:
        >>> from mtl_ray.config.tasks import BinaryTaskConfig
        >>> score, label, users = [0.9, 0.2, 0.6, 0.5], [1, 0, 0, 1], ["ann", "ann", "bob", "bob"]
        >>> cold = segment_masks([7, 7, 0, 0], [3, 3, 3, 3])
        >>> values, counts = evaluate_task(
        ...     "click", BinaryTaskConfig(metrics=("auc",)), prediction=score, label=label, users=users, segments=cold
        ... )
        >>> values["click/auc"], values["click/auc/warm"], values["click/auc/new_user"], counts["click/count/new_user"]
        (0.75, 1.0, 0.0, 2)
    """
    prediction, label, users = _tensor(prediction), _tensor(label), _numbers(users)
    mask = torch.ones(len(users), dtype=torch.bool) if mask is None else mask
    values: dict[str, float] = {}
    counts: dict[str, int] = {}
    labelled = torch.nonzero(mask)[:, 0]
    whole = SortedRows(prediction[labelled].double(), label[labelled], users[labelled])
    for segment, inside in {"": None, **segments}.items():
        suffix = f"/{segment}" if segment else ""
        rows = whole if inside is None else whole.part(inside[labelled])
        counts[f"{name}/count{suffix}"] = len(rows)
        for metric in metric_names(task):
            value = _compute(metric, task, rows) if len(rows) else None
            if value is not None and not math.isnan(value):
                values[f"{name}/{metric}{suffix}"] = value
    return values, counts


def compute(
    metric: str,
    task: TaskConfig,
    prediction: Tensor | ArrayLike,
    label: Tensor | ArrayLike,
    users: Tensor | ArrayLike | None = None,
) -> float | None:
    """Return one metric of rows that all have a label, or None where it is not defined.

    Args:
        metric: its name, such as `auc` or `ndcg@10`.
        task: settings of the task; `recall@K` of numbers reads `relevant`.
        prediction: (n,) or (n, C) on the natural scale.
        label: (n,) or (n, C).
        users: (n,) keys of the rows' users; all rows are of one user by default.

    Raises:
        AssertionError: there is no such metric.

    Example:
        >>> from mtl_ray.config.tasks import BinaryTaskConfig, RegressionTaskConfig
        >>> compute("auc", BinaryTaskConfig(), [0.9, 0.2, 0.6, 0.5], [1, 0, 0, 1])
        0.75
        >>> stars, users = RegressionTaskConfig(relevant=4), ["ann", "ann", "bob", "bob"]
        >>> compute("recall@1", stars, [4.5, 3.0, 2.0, 3.5], [5, 2, 4, 1], users)  # Ann's is found, Bob's is not
        0.5
    """
    prediction, label = _tensor(prediction), _tensor(label)
    keys = torch.zeros(len(label), dtype=torch.int64) if users is None else users
    numbers = torch.unique(keys, return_inverse=True)[1] if isinstance(keys, Tensor) else _numbers(keys)
    return _compute(metric, task, SortedRows(prediction, label, numbers))


def _compute(name: str, task: TaskConfig, rows: SortedRows) -> float | None:
    if (own := own_metric(task, name)) is not None:
        value = implementation_of(own)(settings_of(own))(rows.prediction, rows.label, rows.users)
        return None if value is None else float(value)
    metric = metric_of(name)
    assert metric is not None, name
    return metric.compute(rows, task, int(name.partition("@")[2] or 0))


def _tensor(values: Tensor | ArrayLike) -> Tensor:
    """Return what may be a list or an array as a tensor, real numbers of a list in float64."""
    return values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))


def _numbers(users: Tensor | ArrayLike) -> Tensor:
    """Return (n,) numbers from 0 of keys; a tensor has them already."""
    return users if isinstance(users, Tensor) else torch.as_tensor(np.unique(users, return_inverse=True)[1])
