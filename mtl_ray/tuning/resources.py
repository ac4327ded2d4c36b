"""The resources that trials take, and how many trials fit a cluster at once."""

from collections.abc import Iterable, Mapping

import ray

from mtl_ray.cluster.ray_compat import max_cluster_resources
from mtl_ray.config import Experiment
from mtl_ray.errors import InputError
from mtl_ray.training.worker import resources_of_worker
from mtl_ray.tuning.space import tune_of

Resources = Mapping[str, float]


def resources_of(experiment: Experiment) -> dict[str, float]:
    """Return what Ray Tune reserves for a trial, under Ray Tune's names.

    For several workers Ray Train reserves by itself, and the trial's process only waits for them. It takes one byte of
    memory, since Ray Tune cannot reserve nothing.
    """
    settings, training = tune_of(experiment), experiment.training
    if training.most_workers > 1:
        return {"cpu": 0, "gpu": 0, "memory": 1}
    gpus = float(training.use_gpu) if settings.gpus_per_trial is None else settings.gpus_per_trial
    return {"cpu": settings.cpus_per_trial, "gpu": gpus}


def num_trials_that_fit(experiment: Experiment) -> int:
    """Return how many trials fit at once, into the cluster as it is or as far as it can grow."""
    several = experiment.training.most_workers
    if several > 1:
        fitting = max(num_workers(experiment, nodes) for nodes in (_nodes(), [max_cluster_resources()])) // several
    else:
        wanted = {key.upper(): number for key, number in resources_of(experiment).items()}
        fitting = max(_times(total, wanted) for total in (ray.cluster_resources(), max_cluster_resources()))
    return max(1, min(fitting, tune_of(experiment).trials))


def max_parallel_trials(experiment: Experiment) -> int | None:
    """Return how many trials may be proposed and unfinished: as many as run, so that each learns from earlier ones.

    The result is None if the scheduler pauses trials, which then take no room. `max_concurrent` may exceed the room of
    a cluster that has yet to grow: a trial reserves all it needs at once, so waiting trials hold nothing back.
    """
    settings = tune_of(experiment)
    waits = settings.scheduler.pauses_trials or settings.algorithm.is_population
    return settings.max_concurrent or (None if waits else num_trials_that_fit(experiment))


def num_workers(experiment: Experiment, nodes: Iterable[Resources]) -> int:
    """Return how many workers of trials fit on the nodes."""
    wanted = resources_of_worker(experiment.training)
    return sum(_times(node, wanted) for node in nodes)


def check_resources(experiment: Experiment) -> None:
    """Raise InputError if no trial can ever be scheduled, not even when the cluster has grown."""
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


def _times(available: Resources, wanted: Resources) -> int:
    """Return how often the wanted resources fit."""
    return min(int(available.get(key, 0) / number) for key, number in wanted.items() if number)
