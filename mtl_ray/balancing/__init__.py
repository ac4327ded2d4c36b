"""Task weighting: the T losses of the whole global batch to one scalar, the same on one worker and on many."""

from mtl_ray.balancing.base import Balancer
from mtl_ray.balancing.build import build_balancer
from mtl_ray.balancing.task_losses import Step, make_step

__all__ = ["Balancer", "Step", "build_balancer", "make_step"]
