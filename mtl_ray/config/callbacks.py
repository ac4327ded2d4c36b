"""Callbacks that the user adds to a training."""

from typing import ClassVar

from mtl_ray.config.custom import CustomConfig


class CallbackConfig(CustomConfig):
    """A `Callback` of the user's, which every worker runs; it is built from its settings."""

    base: ClassVar[str] = "mtl_ray.training.callbacks:Callback"


class DriverCallbackConfig(CustomConfig):
    """A `UserCallback` of Ray Train, which its controller runs; it is built from its settings."""

    base: ClassVar[str] = "ray.train:UserCallback"
