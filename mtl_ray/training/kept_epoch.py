"""Which epoch of a training is kept."""

import math
from collections.abc import Mapping

from mtl_ray.config import Experiment, override
from mtl_ray.config.tasks import is_higher_better
from mtl_ray.errors import InputError
from mtl_ray.schema import Schema


def stopping_metric(experiment: Experiment, schema: Schema) -> str | None:
    """Return the key of the metric by which an epoch is kept; None if it is the last one.

    Raises:
        InputError: the file names a metric that has no value in any epoch.
    """
    metric, stopping = experiment.stopping_metric, experiment.training.early_stopping
    if metric is None or stopping is None:
        return None
    reason, task = None, metric.split("/")[1]
    if not schema.num_rows["valid"]:
        reason = "there are no validation rows"
    elif task in schema.tasks and not schema.tasks[task].num_labels.get("valid", 1):
        reason = f"no validation row has a label of {task}"
    if reason and stopping.metric is None:
        return None
    if reason:
        raise InputError(f"training.early_stopping.metric: `{metric}` has no value: {reason}; see data.split")
    return metric


def chooses_epochs(experiment: Experiment) -> bool:
    """Return whether held-out training rows choose the number of epochs before the training on all rows."""
    training, data = experiment.training, experiment.data
    stopping, most = training.early_stopping, training.last_epoch or training.epochs
    wanted = training.choose_epochs and training.distill is None and stopping is not None and stopping.metric is None
    return wanted and most > 1 and data.holdout is None and not data.split.has_valid


def for_epochs(experiment: Experiment, epochs: int, factors: Mapping[str, float]) -> Experiment:
    """Return the experiment of a training on all rows as one with held-out rows has chosen it.

    Args:
        experiment: what is to be trained.
        epochs: the epochs after which the training ends, of those that its schedule plans.
        factors: shares of their weights that tasks keep under `balancing: guarded`, by task; empty under others.
    """
    guard = {"balancing.factors": dict(factors)} if factors else {}
    return override(experiment, {"training.last_epoch": epochs, **guard})


def kept_epoch(history: Mapping[int, Mapping[str, float]], metric: str | None) -> int:
    """Return the epoch with the best value of a metric, the last one of equals; without a metric the last epoch.

    Args:
        history: metrics by epoch.
        metric: see `stopping_metric`.
    """
    if metric is None:
        return max(history)
    sign = 1 if is_higher_better(metric) else -1
    return max(history, key=lambda epoch: (sign * history[epoch].get(metric, -sign * math.inf), epoch))


def describe_kept(experiment: Experiment, schema: Schema) -> str:
    """Return in words which epoch is kept."""
    if chooses_epochs(experiment):
        return "trained twice: first with some training rows held out, which choose the number of epochs"
    metric, stopping = stopping_metric(experiment, schema), experiment.training.early_stopping
    if metric is None or stopping is None:
        return "the last epoch is kept"
    return f"the epoch with the best {metric} is kept; training stops after {stopping.patience} without a better one"
