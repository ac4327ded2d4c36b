"""Predictions and metrics of a split: per task and per segment, exact over workers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_ray.data.load import Batch, Shard, to_device
from mtl_ray.distributed import gather_rows, rank, sum_over_ranks, world_size
from mtl_ray.experiment import Experiment
from mtl_ray.loop import Trainer, mean_losses
from mtl_ray.metrics import evaluate_task, segment_masks
from mtl_ray.models import MultiTaskModel
from mtl_ray.schema import ITEM_SUPPORT, ROW, USER_KEY, USER_SUPPORT, label_column, segments
from mtl_ray.tasks import TaskHead


@torch.no_grad()
def outputs(model: MultiTaskModel, batch: Batch) -> Batch:
    """Predictions `NAME` (natural scale), row number, user key, supports, labels, and `NAME.loss` sums and counts."""
    logits = model.evaluation_logits(batch)
    result = {name: batch[name] for name in (ROW, USER_KEY, USER_SUPPORT, ITEM_SUPPORT)}
    for name, task in model.tasks.items():
        label = batch[label_column(name)]
        result[name] = task.predict(logits[name])
        result[label_column(name)] = label
        # In float64 a sum is the same however the rows are dealt into batches.
        exact = label.double() if label.is_floating_point() else label
        loss, count = task.loss(logits[name].double(), exact, task.labelled(label))
        result[f"{name}.loss"] = torch.stack([loss, count.to(loss.dtype)])
    return result


def metrics_of(experiment: Experiment, model: MultiTaskModel, parts: list[Batch], split: str) -> dict[str, float]:
    """Metrics `split/task/metric[/segment]` and row counts of evaluated rows, gathered on one process."""
    losses = [torch.stack([part[f"{name}.loss"] for part in parts]).double().sum(0) for name in experiment.tasks]
    metrics = mean_losses(experiment, torch.stack(losses, 1).flatten(), split)
    return metrics | segment_metrics(experiment, model.tasks, evaluated_rows(experiment, parts), split)


def evaluated_rows(experiment: Experiment, parts: list[Batch]) -> Batch:
    """All rows of `parts` by row number: the order of summation must not depend on the number of workers."""
    names = [ROW, USER_KEY, USER_SUPPORT, ITEM_SUPPORT, *experiment.tasks, *map(label_column, experiment.tasks)]
    rows = {name: torch.cat([part[name] for part in parts]) for name in names}
    order = torch.argsort(rows[ROW])
    return {name: column[order] for name, column in rows.items()}


def segment_metrics(experiment: Experiment, tasks: Mapping[str, TaskHead], rows: Batch, split: str) -> dict[str, float]:
    """Metrics and counts of `tasks`, from all rows of a split: predictions `NAME`, labels, user keys and supports."""
    metrics: dict[str, float] = {}
    masks = segment_masks(rows[USER_SUPPORT], rows[ITEM_SUPPORT], segments(experiment.evaluation.support_buckets))
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


def evaluate(trainer: Trainer, shard: Shard) -> dict[str, float]:
    """Metrics of a split, every row counted once, the same on every worker.

    Rows are gathered on rank 0, so that the values do not depend on the number of workers.
    """
    experiment, model = trainer.experiment, trainer.evaluated
    model.eval()
    parts = []
    for batch in shard.evaluation_batches(experiment.evaluation.batch_size):
        part = outputs(model, to_device(batch, trainer.device, trainer.dtype))
        parts.append({name: column.cpu() for name, column in part.items()})
    whole = {name: _gathered(name, [part[name] for part in parts], trainer.device) for name in parts[0]}
    box: list[Any] = [metrics_of(experiment, model, [whole], shard.split) if rank() == 0 else None]
    if world_size() > 1:
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def _gathered(name: str, columns: list[Tensor], device: torch.device) -> Tensor:
    if name.endswith(".loss"):
        return sum_over_ranks(torch.stack(columns).double().sum(0).to(device)).cpu()
    return gather_rows(torch.cat(columns).to(device)).cpu()
