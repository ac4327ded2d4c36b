"""Inputs that a task must not see."""

from mtl_ray.config.experiment import Experiment


def hidden_by(experiment: Experiment, task: str) -> set[str]:
    """Return the inputs that are hidden from a masked-input task; none for other tasks.

    They are all inputs that read its label column (a number may also be there in buckets) and the ids of their owners.
    """
    if not experiment.tasks[task].masked_input:
        return set()
    answers = set(experiment.inputs_of(task))
    owners = {experiment.features[name].entity for name in answers}
    keys = {"user": experiment.user, "item": experiment.item}
    return answers | {key for entity, key in keys.items() if entity in owners}
