"""Metrics of one task per segment, exact: from rows already gathered over ranks, with row counts beside them."""

import math

import torch
from torch import Tensor

from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.tasks import TaskConfig, metric_names, own_metric
from mtl_ray.evaluation.metrics import metric_of
from mtl_ray.evaluation.roc_auc import SortedRows
from mtl_ray.schema import Segment


def segment_masks(user_support: Tensor, item_support: Tensor, segments: list[Segment]) -> dict[str, Tensor]:
    """Return (n,) bool by segment name, from the training interactions of each row's user and item."""
    masks = {}
    for segment in segments:
        mask = torch.ones(len(user_support), dtype=torch.bool)
        for support, bounds in ((user_support, segment.users), (item_support, segment.items)):
            if bounds is not None:
                low, high = bounds
                mask &= (support >= low) & ((support < high) if high is not None else True)
        masks[segment.name] = mask
    return masks


def evaluate_task(
    name: str,
    task: TaskConfig,
    *,
    prediction: Tensor,
    label: Tensor,
    mask: Tensor,
    users: Tensor,
    segments: dict[str, Tensor],
) -> tuple[dict[str, float], dict[str, int]]:
    """Return metrics `task/metric[/segment]` and row counts `task/count[/segment]`.

    A metric that a segment does not define (no row, one class only) is left out; the count says why.

    Args:
        name: the task's name.
        task: its settings; `metrics` or the defaults of its kind are computed.
        prediction: (n,) or (n, C) on the natural scale.
        label: (n,) or (n, C).
        mask: (n,) bool, rows that have a label.
        users: (n,) int64 number of each row's user, from 0.
        segments: (n,) bool by segment.
    """
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


def compute(metric: str, task: TaskConfig, prediction: Tensor, label: Tensor, users: Tensor) -> float | None:
    """Return one metric of rows that all have a label, or None where it is not defined.

    Args:
        metric: its name, such as `auc` or `ndcg@10`.
        task: the task's settings.
        prediction: (n,) or (n, C) on the natural scale.
        label: (n,) or (n, C).
        users: (n,) keys of the rows' users.
    """
    return _compute(metric, task, SortedRows(prediction, label, torch.unique(users, return_inverse=True)[1]))


def _compute(name: str, task: TaskConfig, rows: SortedRows) -> float | None:
    if (own := own_metric(task, name)) is not None:
        value = implementation_of(own)(settings_of(own))(rows.prediction, rows.label, rows.users)
        return None if value is None else float(value)
    metric = metric_of(name)
    assert metric is not None, name
    return metric.compute(rows, task, int(name.partition("@")[2] or 0))
