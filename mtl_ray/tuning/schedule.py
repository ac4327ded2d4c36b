"""Express task weights and learning rates that changed during training as an experiment that can be trained again."""

from mtl_ray.config.balancing import ScheduledBalancingConfig
from mtl_ray.config.comparison import Changes
from mtl_ray.config.experiment import Experiment
from mtl_ray.config.loading import override

LEARNING_RATE, SCHEDULE = "training.optimizer.lr", "training.schedule.epochs"


def changed_from(experiment: Experiment, changes: Changes, epoch: int) -> Experiment:
    """Return the experiment whose weights and learning rate follow `changes` from an epoch on.

    Args:
        experiment: has `static` or `scheduled` weights.
        changes: values of `tasks.NAME.weight` and `training.optimizer.lr`.
        epoch: epoch from which they hold, counted from 0.
    """
    weights: dict[str, dict[int, float]] = {}
    if isinstance(experiment.balancing, ScheduledBalancingConfig):
        weights = {name: dict(values) for name, values in experiment.balancing.weights.items()}
    factors, first = dict(experiment.training.schedule.epochs), experiment.training.optimizer.lr
    kept = experiment.balancing.model_dump(include={"diagnostics_every", "comparable_losses"})
    made: Changes = {}
    for path, value in changes.items():
        if path != LEARNING_RATE:
            _put(weights.setdefault(path.split(".")[1], {}), epoch, value)
        elif epoch == 0:
            made[LEARNING_RATE] = value
        else:
            _put(factors, epoch, value / first, 1.0)
    if weights:
        made["balancing"] = {"kind": "scheduled", "weights": weights, **kept}
    if factors:
        made[SCHEDULE] = factors
    return override(experiment, made, "tune:")


def schedule_changes(experiment: Experiment) -> Changes:
    """Return the settings that `changed_from` has changed, by dotted path."""
    tree = experiment.model_dump(mode="json")
    found: Changes = {LEARNING_RATE: tree["training"]["optimizer"]["lr"]}
    if tree["balancing"]["kind"] == "scheduled":
        found["balancing"] = tree["balancing"]
    if tree["training"]["schedule"]["epochs"]:
        found[SCHEDULE] = tree["training"]["schedule"]["epochs"]
    return found


def _put(values: dict[int, float], epoch: int, value: float, before: float | None = None) -> None:
    """Set a value from an epoch on, unless it holds already; `before` holds until the first one."""
    begun = [first for first in values if first < epoch]
    if value != (values[max(begun)] if begun else before):
        values[epoch] = value
