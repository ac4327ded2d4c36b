"""The multi-task model and its parts."""

from mtl_ray.models.model import MultiTaskModel

__all__ = ["MultiTaskModel"]
