"""Ray Train without the processes that a training here never uses."""

from typing import Any

from ray.train.torch import TorchTrainer

from mtl_ray.cluster.ray_compat import skip_default_callbacks
from mtl_ray.cluster.session import is_own


class RayTrainer(TorchTrainer):
    """A `TorchTrainer` that starts only the processes it needs."""

    def __init__(self, *args: Any, frees_resources: bool = True, **kwargs: Any) -> None:
        """Take the arguments of `TorchTrainer`.

        Args:
            args: arguments of `TorchTrainer`.
            frees_resources: free the workers' resources if the controller dies. A Ray that this process started ends
                with it and frees them anyway.
            kwargs: arguments of `TorchTrainer`.
        """
        super().__init__(*args, **kwargs)
        skip_default_callbacks(self, resource_cleaner=not frees_resources or is_own())
