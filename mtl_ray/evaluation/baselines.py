"""Baselines: predictions without a model, from training rows alone, which any model must beat in every segment.

constant     the mean training label
item_mean    the item's mean training label, shrunk towards the constant
user_mean    the user's mean training label, shrunk towards the constant
popularity   the number of the item's training interactions, as a score; for metrics of the order alone

A task whose label is also an input gets only the constant: the mean label of an entity would be that input.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from mtl_ray.config.tasks import TaskConfig
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Batch, read_directly, to_batch
from mtl_ray.evaluation.evaluate import segment_metrics
from mtl_ray.evaluation.metrics import metric_of_key
from mtl_ray.evaluation.segments import BUCKETS
from mtl_ray.schema import ITEM_SUPPORT, ROW, USER_KEY, USER_SUPPORT, SplitName, label_column
from mtl_ray.tasks.base import TaskHead, build_task

SHRINKAGE = {"item_mean": 25.0, "user_mean": 10.0}
"""Labels at the constant that are added to an entity's own (Koren 2010, "Factor in the neighbors", section 2.1)."""

BASELINES = ("constant", "item_mean", "user_mean", "popularity")


def evaluate_baselines(
    tasks: Mapping[str, TaskConfig],
    prepared: Prepared,
    split: SplitName,
    *,
    user: str,
    item: str,
    support_buckets: tuple[int, ...] = BUCKETS,
) -> dict[str, dict[str, float]]:
    """Return metrics `split/task/metric[/segment]` by baseline, for the tasks whose prediction is one number.

    Labels and ids of the training rows are read file by file; sums by entity are held in memory.

    Args:
        tasks: the sections of all tasks, by name.
        prepared: the data set.
        split: the rows to evaluate on.
        user: name of the feature that is the user's key.
        item: name of the feature that is the item's key.
        support_buckets: see `segment_metrics`.

    Example:
        >>> found = evaluate_baselines(shop.tasks, data, "test", user=shop.user, item=shop.item)  # doctest: +SKIP
        >>> found["item_mean"]["test/click/auc"]  # doctest: +SKIP
        0.712
    """
    fitted = prepared.schema.tasks
    heads = {name: build_task(task, fitted[name]) for name, task in tasks.items() if task.predicts_number}
    if not heads or not prepared.schema.num_rows[split]:
        return {name: {} for name in BASELINES}
    own = {name: head for name, head in heads.items() if not tasks[name].masked_input}
    keys = {"item_mean": item, "user_mean": user}
    labels = [label_column(name) for name in heads]
    rows = _rows(prepared, split, [ROW, USER_KEY, USER_SUPPORT, ITEM_SUPPORT, *keys.values(), *labels])
    means = {name: fitted[name].mean for name in heads}
    constant = {name: torch.full((len(rows[ROW]),), means[name], dtype=torch.float64) for name in heads}
    support = rows[ITEM_SUPPORT].double()
    popularity = dict.fromkeys(own, support)
    result = {
        "constant": segment_metrics(heads, rows | constant, split, support_buckets),
        "popularity": segment_metrics(own, rows | popularity, split, support_buckets),
    }
    by_entity = _entity_means(prepared, own, keys, means)
    for baseline, key in keys.items():
        predictions = {name: by_entity[baseline, name][rows[key].long()] for name in own}
        result[baseline] = segment_metrics(own, rows | predictions, split, support_buckets)
    result["popularity"] = {
        key: value
        for key, value in result["popularity"].items()
        if (metric := metric_of_key(key)) is not None and metric.reads_order_alone
    }
    return {name: result[name] for name in BASELINES}


def _entity_means(
    prepared: Prepared, tasks: Mapping[str, TaskHead], keys: Mapping[str, str], means: Mapping[str, float]
) -> dict[tuple[str, str], Tensor]:
    """Return, by baseline and task, the (num_embeddings,) shrunk mean of each id; the constant without labels."""
    sizes = {baseline: prepared.schema.features[key].num_embeddings or 0 for baseline, key in keys.items()}
    sums = {(baseline, task): np.zeros((2, sizes[baseline])) for baseline in keys for task in tasks}
    columns = [*keys.values(), *map(label_column, tasks)]
    for part in _parts(prepared, "train", columns):
        for name, task in tasks.items():
            label = part[label_column(name)]
            mask = task.labelled(label)
            for baseline, key in keys.items():
                ids, size = part[key][mask].numpy(), sizes[baseline]
                sums[baseline, name] += [
                    np.bincount(ids, label[mask].numpy(), minlength=size),
                    np.bincount(ids, minlength=size),
                ]
    return {
        (baseline, name): torch.from_numpy((total + SHRINKAGE[baseline] * means[name]) / (count + SHRINKAGE[baseline]))
        for (baseline, name), (total, count) in sums.items()
    }


def _rows(prepared: Prepared, split: SplitName, columns: list[str]) -> Batch:
    """Return all rows of a split in their order."""
    parts = list(_parts(prepared, split, columns))
    rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = torch.argsort(rows[ROW])
    return {name: column[order] for name, column in rows.items()}


def _parts(prepared: Prepared, split: SplitName, columns: list[str]) -> Iterator[Batch]:
    folder = prepared.folder / split
    return (to_batch(table) for table in read_directly(folder, folder.files(".parquet"), list(dict.fromkeys(columns))))
