"""Ray Train without the processes that a training here never uses."""

from collections.abc import Callable
from typing import Any

from ray.train.torch import TorchTrainer

from mtl_ray.cluster.ray_compat import skip_default_callbacks, tell_controller
from mtl_ray.cluster.session import is_own


class RayTrainer(TorchTrainer):
    """A `TorchTrainer` that starts only the processes it needs."""

    def __init__(
        self,
        *args: Any,
        frees_resources: bool = True,
        started: Callable[[Any], None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take the arguments of `TorchTrainer`.

        Args:
            args: arguments of `TorchTrainer`.
            frees_resources: free the workers' resources if the controller dies. A Ray that this process started ends
                with it and frees them anyway.
            started: receives the controller of the training, so that `abort_controller` can end it. Give it where `fit`
                runs beside the main thread: Ctrl-C reaches that one alone.
            kwargs: arguments of `TorchTrainer`.
        """
        super().__init__(*args, **kwargs)
        skip_default_callbacks(self, resource_cleaner=not frees_resources or is_own())
        if started is not None:
            tell_controller(self, started)
