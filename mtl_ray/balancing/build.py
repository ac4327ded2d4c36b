"""From the settings of a task weighting to its balancer."""

import torch

from mtl_ray.balancing.base import Balancer
from mtl_ray.balancing.static import ScheduledBalancer, StaticBalancer
from mtl_ray.config import Experiment
from mtl_ray.config import balancing as settings


def build_balancer(experiment: Experiment) -> Balancer:
    """The balancer that the experiment names, in float64."""
    return _build(experiment).double()


def _build(experiment: Experiment) -> Balancer:
    tasks, num_tasks = list(experiment.tasks), len(experiment.tasks)
    declared = torch.tensor(list(experiment.weights().values()), dtype=torch.float64)
    match experiment.balancing:
        case settings.StaticBalancingConfig():
            return StaticBalancer(declared)
        case settings.EqualBalancingConfig():
            return StaticBalancer(torch.full_like(declared, 1 / num_tasks))
        case settings.ScheduledBalancingConfig(weights=weights):
            return ScheduledBalancer(declared, {tasks.index(name): w for name, w in weights.items()})
        case _:
            from mtl_ray.balancing.methods import build_method  # noqa: PLC0415 - TorchJD is slow to load

            return build_method(experiment)
