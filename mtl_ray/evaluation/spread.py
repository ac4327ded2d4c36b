"""The uncertainty that an ensemble states: how far its members differ, beside how far they are from the labels."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mtl_ray.config.tasks import RealTaskConfig
from mtl_ray.schema import label_column
from mtl_ray.tasks.base import TaskHead

CENTRAL = 1.645
"""Standard deviations on both sides of the mean of a normal distribution that hold 90% of it."""


class SpreadCheck(NamedTuple):
    """The stated uncertainty of a task's predictions on some rows, and their error."""

    rows: int
    """Labelled rows."""
    spread: float
    """Mean of the standard deviation over the members."""
    error: float
    """Root mean squared error; for a binary task it is the root of the Brier score."""
    inside: float | None
    """Share of the labels within prediction +- `CENTRAL` sqrt(spread^2 + noise^2), of a number with known noise."""


def spread_of(name: str) -> str:
    """Return the column of evaluated rows that holds the standard deviations of a task's predictions."""
    return f"{name}.std"


def spread_checks(
    tasks: Mapping[str, TaskHead],
    rows: Mapping[str, Tensor],
    segments: Mapping[str, Tensor],
    noise: Mapping[str, float],
) -> dict[str, SpreadCheck]:
    """Return the checks of the tasks whose prediction estimates the label, by key `task` or `task/segment`.

    Args:
        tasks: heads of the tasks, by name.
        rows: predictions `NAME`, their standard deviations `NAME.std` and labels; of a single model none has any.
        segments: (n,) bool by name of the segment; "" for all rows.
        noise: root mean squared error on validation rows, by task.
    """
    found = {}
    for name, task in tasks.items():
        if not task.spec.estimates_label or spread_of(name) not in rows:
            continue
        label, prediction, spread = (rows[key].double() for key in (label_column(name), name, spread_of(name)))
        labelled = task.labelled(rows[label_column(name)])
        for segment, inside in segments.items():
            mask = labelled & inside
            if mask.any():
                gap, own = (label - prediction)[mask].abs(), spread[mask]
                share = None
                if name in noise and is_number(task):
                    bound = CENTRAL * torch.sqrt(own**2 + noise[name] ** 2)
                    share = (gap <= bound).double().mean().item()
                error = math.sqrt((gap**2).mean().item())
                found[f"{name}/{segment}".rstrip("/")] = SpreadCheck(int(mask.sum()), own.mean().item(), error, share)
    return found


def is_number(task: TaskHead) -> bool:
    """Return whether the labels of a task are numbers of which an interval makes sense."""
    return isinstance(task.spec, RealTaskConfig)
