"""Task weighting: the T losses of the whole global batch to one scalar, the same on one worker and on many."""

from mtl_ray.balancing.base import Balancer, build_balancer
from mtl_ray.balancing.task_losses import TaskLosses, make_task_losses

__all__ = ["Balancer", "TaskLosses", "build_balancer", "make_task_losses"]
