"""The multi-task model and its parts."""

from typing import TYPE_CHECKING

from mtl_ray.lazy import lazy

if TYPE_CHECKING:
    from mtl_ray.models.architectures.base import ModelOutput, Network, NetworkInput, NetworkSpec, Towers
    from mtl_ray.models.build import build_masking, build_model
    from mtl_ray.models.ensemble import Ensemble
    from mtl_ray.models.masking import MaskedBatch, Masking
    from mtl_ray.models.model import MultiTaskModel

__all__ = [
    "Ensemble",
    "MaskedBatch",
    "Masking",
    "ModelOutput",
    "MultiTaskModel",
    "Network",
    "NetworkInput",
    "NetworkSpec",
    "Towers",
    "build_masking",
    "build_model",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Ensemble": "ensemble",
        "MaskedBatch": "masking",
        "Masking": "masking",
        "ModelOutput": "architectures.base",
        "MultiTaskModel": "model",
        "Network": "architectures.base",
        "NetworkInput": "architectures.base",
        "NetworkSpec": "architectures.base",
        "Towers": "architectures.base",
        "build_masking": "build",
        "build_model": "build",
    },
)
