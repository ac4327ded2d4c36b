"""The multi-task model and its parts."""

from mtl_ray.models.multitask import MultiTaskModel

__all__ = ["MultiTaskModel"]
