"""Whether the early-stopping metric can have a value, before time is spent on an epoch."""

import torch

from mtl_ray.config import Experiment
from mtl_ray.data.loader import read_directly, to_batch
from mtl_ray.errors import InputError
from mtl_ray.evaluation.segments import compute, segment_masks
from mtl_ray.schema import ITEM_SUPPORT, USER_KEY, USER_SUPPORT, Schema, label_column, segments
from mtl_ray.storage import Folder
from mtl_ray.tasks.base import build_task
from mtl_ray.training.kept_epoch import stopping_metric


def check_stopping_metric(experiment: Experiment, schema: Schema, valid: Folder) -> None:
    """Raise InputError if an early-stopping metric that the file names has no value for any model.

    An AUC of one class is an example. Where it is not named, the last epoch is kept.

    Args:
        experiment: its settings.
        schema: the schema of the data set.
        valid: folder of the validation rows.
    """
    stopping, settings = stopping_metric(experiment, schema), experiment.training.early_stopping
    if stopping is None or settings is None or settings.metric is None:
        return
    _, task, *named = stopping.split("/")
    if task not in experiment.tasks or named == ["loss"]:
        return
    head, (metric, *segment) = build_task(experiment.tasks[task], schema.tasks[task]), named
    label, users, inside = _rows(valid, task, segment, experiment.evaluation.support_buckets)
    kept = head.labelled(label) & inside
    constant = head.predict(torch.zeros(int(kept.sum()), head.num_outputs, dtype=torch.float64))
    where = f" in the segment {segment[0]}" if segment else ""
    if not len(constant):
        reason = f"no validation row{where} has a label of {task}"
    elif compute(metric, head.spec, constant, label[kept], users[kept]) is None:
        values = label[kept].unique()
        found = f"are all {values[0]:g}" if len(values) == 1 else "do not define it"
        reason = f"the {len(constant):,} labels of {task} of the validation rows{where} {found}"
    else:
        return
    raise InputError(f"training.early_stopping.metric: `{stopping}` has no value: {reason}; see data.split")


def _rows(
    valid: Folder, task: str, segment: list[str], support_buckets: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (n, ...) labels of a task, (n,) users, and (n,) bool: the rows inside the segment, if one is named."""
    columns = [label_column(task), USER_KEY, USER_SUPPORT, ITEM_SUPPORT]
    parts = [to_batch(table) for table in read_directly(valid, valid.files(".parquet"), columns)]
    label, users, user_support, item_support = (torch.cat([part[name] for part in parts]) for name in columns)
    masks = segment_masks(user_support, item_support, segments(support_buckets))
    return label, users, masks[segment[0]] if segment else torch.ones(len(users), dtype=torch.bool)
