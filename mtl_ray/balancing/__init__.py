"""Task weighting: the T losses of the whole global batch to one scalar, the same on one worker and on many."""

from typing import TYPE_CHECKING

from mtl_ray.lazy import lazy

if TYPE_CHECKING:
    from mtl_ray.balancing.base import Balancer, WeightedTasks, build, build_balancer
    from mtl_ray.balancing.model_outputs import model_losses
    from mtl_ray.balancing.task_losses import TaskLosses

__all__ = [
    "Balancer",
    "TaskLosses",
    "WeightedTasks",
    "build",
    "build_balancer",
    "model_losses",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Balancer": "base",
        "TaskLosses": "task_losses",
        "WeightedTasks": "base",
        "build": "base",
        "build_balancer": "base",
        "model_losses": "model_outputs",
    },
)
