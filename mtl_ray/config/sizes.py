"""The most that an experiment may declare."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtl_ray.config.experiment import Experiment

MAX_TASKS, MAX_FEATURES = 500, 2000
"""A model has layers for each task and columns for each feature: with some thousands, even to build it takes minutes,
and a worker's step does little else than start small operations."""


def check_sizes(experiment: "Experiment") -> None:
    """Forbid more tasks or features than a model can be built for. Raises ValueError."""
    for section, names, most in (
        ("tasks", experiment.tasks, MAX_TASKS),
        ("features", experiment.features, MAX_FEATURES),
    ):
        if len(names) > most:
            raise ValueError(
                f"{section}: expected at most {most:,} of them; found {len(names):,}; several labels of one kind are "
                "one task of kind `multilabel`, several numbers one feature of kind `vector`"
            )
