"""Predictions and metrics of a split: per task and per segment, exact over workers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl_ray.config.tasks import relative_weights
from mtl_ray.config.training import EvaluationConfig
from mtl_ray.data.loader import Batch, Shard, to_device
from mtl_ray.distributed import gather_rows, rank, sum_over_ranks, world_size
from mtl_ray.evaluation.losses import mean_losses
from mtl_ray.evaluation.segments import BUCKETS, evaluate_task, segment_masks
from mtl_ray.evaluation.spread import spread_of
from mtl_ray.models import MultiTaskModel
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.schema import ITEM_SUPPORT, ROW, USER_KEY, USER_SUPPORT, label_column, segments
from mtl_ray.tasks.base import TaskHead


@torch.no_grad()
def evaluated(model: MultiTaskModel | Ensemble, batches: Iterable[Batch]) -> Batch:
    """Return the evaluated rows, on the CPU.

    These are, by task, predictions `NAME` on the natural scale, labels, and `NAME.loss`, the (2,) sum and count of its
    losses; of an ensemble also `NAME.std`, see `evaluation.spread`; and row numbers, user keys and supports.
    """
    columns = (ROW, USER_KEY, USER_SUPPORT, ITEM_SUPPORT, *map(label_column, model.tasks))
    parts = []
    for batch in batches:
        part = {name: batch[name] for name in columns}
        if isinstance(model, Ensemble):
            logits, spread = model.logits_with_spread(batch)
            part |= logits | {spread_of(name): values for name, values in spread.items()}
        else:
            part |= model.evaluation_logits(batch)
        parts.append({name: column.cpu() for name, column in part.items()})
    rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    for name, task in model.tasks.items():
        logits, label = rows[name], rows[label_column(name)]
        rows[name] = task.predict(logits)
        # In float64 a sum is the same however the rows are distributed over workers.
        exact = label.double() if label.is_floating_point() else label
        rows[f"{name}.loss"] = torch.stack(task.loss(logits.double(), exact, task.labelled(label))).double()
    return rows


def by_row(parts: Sequence[Batch]) -> Batch:
    """Join evaluated rows of several parts: losses are added, and rows are sorted by their number.

    The order matters: that of summation must not depend on the number of workers.
    """
    order = torch.argsort(torch.cat([part[ROW] for part in parts]))
    whole = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        whole[name] = torch.stack(columns).sum(0) if name.endswith(".loss") else torch.cat(columns)[order]
    return whole


def metrics_of(
    model: MultiTaskModel | Ensemble,
    rows: Batch,
    split: str,
    support_buckets: tuple[int, ...] = BUCKETS,
    *,
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return metrics `split/task/metric[/segment]` and row counts.

    Args:
        model: the model.
        rows: the evaluated rows of the whole split, see `evaluated`.
        split: first part of the metric keys.
        support_buckets: see `segment_metrics`.
        weights: weight of each task's loss in the sum of all; by default those that the tasks declare.
    """
    if weights is None:
        weights = relative_weights({name: task.spec for name, task in model.tasks.items()})
    losses = torch.stack([rows[f"{name}.loss"] for name in weights], 1).flatten()
    return mean_losses(weights, model.loss_scales, losses, split) | segment_metrics(
        model.tasks, rows, split, support_buckets
    )


def segment_metrics(
    tasks: Mapping[str, TaskHead], rows: Batch, split: str, support_buckets: tuple[int, ...] = BUCKETS
) -> dict[str, float]:
    """Return metrics and counts of `tasks`, from all rows of a split.

    Args:
        tasks: heads of the tasks, by name.
        rows: predictions `NAME`, labels, user keys and supports.
        split: first part of the metric keys.
        support_buckets: lower ends of the ranges of training interactions, see `EvaluationConfig`.

    Example:
        >>> from mtl_ray.config.tasks import BinaryTaskConfig
        >>> from mtl_ray.tasks import Binary
        >>> rows = {"click": torch.tensor([0.9, 0.2]), label_column("click"): torch.tensor([1.0, 0.0])}
        >>> rows |= {name: torch.tensor([4, 0]) for name in (USER_KEY, USER_SUPPORT, ITEM_SUPPORT)}
        >>> found = segment_metrics({"click": Binary(BinaryTaskConfig(metrics=("auc",)))}, rows, "test")
        >>> found["test/click/auc"], found["test/click/count/warm"]
        (1.0, 1.0)
    """
    metrics: dict[str, float] = {}
    masks = segment_masks(rows[USER_SUPPORT], rows[ITEM_SUPPORT], segments(support_buckets))
    users = torch.unique(rows[USER_KEY], return_inverse=True)[1]
    for name, task in tasks.items():
        label = rows[label_column(name)]
        values, counts = evaluate_task(
            name,
            task.spec,
            prediction=rows[name],
            label=label,
            mask=task.labelled(label),
            users=users,
            segments=masks,
        )
        metrics |= {f"{split}/{key}": value for key, value in values.items()}
        metrics |= {f"{split}/{key}": float(count) for key, count in counts.items()}
    return metrics


def evaluate_model(
    model: MultiTaskModel | Ensemble,
    shard: Shard,
    settings: EvaluationConfig = EvaluationConfig(),  # noqa: B008 - it is frozen
    *,
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the metrics of a split, which are the same on every worker.

    All rows are gathered and evaluated on rank 0, so that the values do not depend on the number of workers.

    Args:
        model: the model, on any device; it is left in evaluation mode.
        shard: this worker's rows of the split.
        settings: rows of a forward pass, and the ranges of training interactions that are segments.
        weights: see `metrics_of`.

    Example:
        >>> evaluate_model(model, Shard(data.folder, data.schema, "test"))["test/click/auc"]  # doctest: +SKIP
        0.803
    """
    parameter = next(model.eval().parameters())
    device, dtype = parameter.device, parameter.dtype
    batches = shard.evaluation_batches(settings.batch_size)
    rows = evaluated(model, (to_device(batch, device, dtype) for batch in batches))
    whole = by_row([{name: _gathered(name, column, device) for name, column in rows.items()}])
    box: list[Any] = [None]
    if rank() == 0:
        box = [metrics_of(model, whole, shard.split, settings.support_buckets, weights=weights)]
    if world_size() > 1:
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def _gathered(name: str, column: Tensor, device: torch.device) -> Tensor:
    gather = sum_over_ranks if name.endswith(".loss") else gather_rows
    return gather(column.to(device)).cpu()
