"""What trials of a search take of a cluster, and how many it has room for at once."""

from collections.abc import Iterable, Mapping

import ray

from mtl_ray.cluster.ray_compat import max_cluster_resources
from mtl_ray.config import Experiment
from mtl_ray.errors import InputError
from mtl_ray.training.worker import resources_of_worker
from mtl_ray.tuning.space import tune_of

Resources = Mapping[str, float]


def resources_of(experiment: Experiment) -> dict[str, float]:
    """What Ray Tune reserves for a trial, by its names; Ray Train reserves for several workers by itself.

    Then the trial's process only waits for them, and has the one byte without which there is nothing to reserve.
    """
    settings, training = tune_of(experiment), experiment.training
    if training.most_workers > 1:
        return {"cpu": 0, "gpu": 0, "memory": 1}
    gpus = float(training.use_gpu) if settings.gpus_per_trial is None else settings.gpus_per_trial
    return {"cpu": settings.cpus_per_trial, "gpu": gpus}


def num_trials_that_fit(experiment: Experiment) -> int:
    """How many trials the cluster has room for at once, or comes to have if it has told Ray how far it grows."""
    several = experiment.training.most_workers
    if several > 1:
        room = max(num_workers(experiment, nodes) for nodes in (_nodes(), [max_cluster_resources()])) // several
    else:
        wanted = {key.upper(): number for key, number in resources_of(experiment).items()}
        room = max(_times(total, wanted) for total in (ray.cluster_resources(), max_cluster_resources()))
    return max(1, min(room, tune_of(experiment).trials))


def max_parallel_trials(experiment: Experiment) -> int | None:
    """How many trials may have been proposed and not ended: so many as run, so that each knows of those before it.

    None where trials that wait for others take no room. `max_concurrent` may be beyond the room, for a cluster that is
    to grow: what a trial or its workers take is reserved as a whole, so those that wait hold nothing back.
    """
    settings = tune_of(experiment)
    waits = settings.scheduler.pauses_trials or settings.algorithm.is_population
    return settings.max_concurrent or (None if waits else num_trials_that_fit(experiment))


def num_workers(experiment: Experiment, nodes: Iterable[Resources]) -> int:
    """How many workers of trials find room on nodes."""
    wanted = resources_of_worker(experiment.training)
    return sum(_times(node, wanted) for node in nodes)


def check_resources(experiment: Experiment) -> None:
    """Whether some node, or of several workers the cluster, has, or may come to have, room for a trial.

    Raises:
        InputError: it has not.
    """
    nodes, training = [*_nodes(), max_cluster_resources()], experiment.training
    if training.most_workers > 1:
        found = num_workers(experiment, nodes)
        if found < training.most_workers:
            kind = f"{training.cpus_per_worker:g} CPUs" + (" and a GPU" if training.use_gpu else "")
            raise InputError(
                f"training.num_workers: expected at most the {found} workers of {kind} that the cluster has room for; "
                f"found {training.most_workers}"
            )
        return
    for key, wanted in resources_of(experiment).items():
        largest = max(node.get(key.upper(), 0) for node in nodes)
        if wanted > largest:
            raise InputError(
                f"tune.{key}s_per_trial: expected at most the {largest:g} {key.upper()}s of the largest node of the "
                f"cluster; found {wanted:g}"
            )


def _nodes() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _times(room: Resources, wanted: Resources) -> int:
    """How often the wanted resources fit."""
    return min(int(room.get(key, 0) / number) for key, number in wanted.items() if number)
