"""The name under which models registered before December 2026 import the scorer."""

from mtl_ray.scoring.scorer import Scorer, as_column

__all__ = ["Scorer", "as_column"]
