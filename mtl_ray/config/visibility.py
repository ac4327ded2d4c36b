"""Which inputs a task reads."""

from mtl_ray.config.experiment import Experiment
from mtl_ray.config.features import SequenceFeatureConfig


def hidden_by(experiment: Experiment, task: str) -> set[str]:
    """Inputs that a masked-input task must not see: none for other tasks.

    They are all inputs that read its label column (a number may also be there in buckets) and the ids of their owners.
    """
    if not experiment.tasks[task].masked_input:
        return set()
    column = experiment.tasks[task].column or task
    answers = {
        name
        for name, feature in experiment.features.items()
        if not isinstance(feature, SequenceFeatureConfig) and experiment.column_of(name) == column
    }
    keys = {"user": experiment.user, "item": experiment.item}
    owners = {experiment.features[name].entity for name in answers}
    return answers | {key for entity, key in keys.items() if entity in owners}
