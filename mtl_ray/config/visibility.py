"""Inputs that a task must not see."""

from collections.abc import Mapping

from mtl_ray.config.feature_base import FeatureSection, key_of, readers_of
from mtl_ray.config.tasks import TaskConfig


def hidden_by(features: Mapping[str, FeatureSection], name: str, task: TaskConfig) -> set[str]:
    """Return the inputs that are hidden from a masked-input task; none for other tasks.

    They are all inputs that read its label column (a number may also be there in buckets) and the ids of their owners.

    Args:
        features: the sections of all features, by name.
        name: name of the task.
        task: its section.
    """
    if not task.masked_input:
        return set()
    answers = set(readers_of(features, task.column or name))
    owners = {features[answer].entity for answer in answers} - {"context"}
    return answers | {key_of(features, entity) for entity in owners}
