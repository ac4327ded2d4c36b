"""The members of an ensemble: the settings by which each is trained."""

import numpy as np

from mtl_ray.config import Experiment, override
from mtl_ray.counter_rng import Stream, mix
from mtl_ray.models.checkpoint import ENSEMBLE, member_folder
from mtl_ray.storage import Folder


def members_of(experiment: Experiment) -> list[Experiment]:
    """Return the settings of each member; those of a single model are the experiment itself.

    All have the experiment's split. The first has its seed, so it is the model that would be trained without others. If
    `training.warm_start` is the folder of an ensemble, each member starts from the member of its number.
    """
    number, start = experiment.training.ensemble, experiment.training.warm_start
    if number == 1:
        return [experiment]
    common = {"training.ensemble": 1, "data.seed": experiment.data_seed, "tracking.register_as": None}
    changes = [{**common, "seed": seed_of(experiment.seed, member)} for member in range(1, number + 1)]
    if start is not None and (folder := Folder(start)).exists(ENSEMBLE):
        changes = [{**own, "training.warm_start": member_folder(folder, k)} for k, own in enumerate(changes, 1)]
    return [override(experiment, own) for own in changes]


def seed_of(seed: int, member: int) -> int:
    """Return the seed of a member, counted from 1: that of the experiment for the first, hashes of it for the others.

    So ensembles of neighbouring seeds have no member in common.
    """
    if member == 1:
        return seed
    place = np.array([(member << 9) + Stream.MEMBER], np.uint64)
    return int(mix(place, seed)[0] >> np.uint64(33))


def title_of(title: str | None, experiment: Experiment, member: int) -> str | None:
    """Return the title of a member's progress bar; None for no bar."""
    number = experiment.training.ensemble
    return title if title is None or number == 1 else f"{title} member {member}/{number}".strip()
