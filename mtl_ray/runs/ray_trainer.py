"""Ray Train with the processes that a training here has use for.

Beside the workers Ray Train starts one that hands out Ray Data, which no worker asks for (each reads its shard by
itself), and one that frees the workers' resources if the controller dies, which asks Ray's dashboard once a second. A
process costs a second or more at the start of each training, and on few cores some of the workers' time.
"""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from mtl_ray.cluster.session import is_own


class RayTrainer(TorchTrainer):
    """`TorchTrainer` without Ray Data's process, and where it is of no use without that which frees resources."""

    def __init__(self, *args: Any, frees_resources: bool = True, **kwargs: Any) -> None:
        """As `TorchTrainer`.

        Args:
            args: of `TorchTrainer`.
            frees_resources: whether to free the workers' resources where the controller has died, if Ray does not end
                with this process anyway.
            kwargs: of `TorchTrainer`.
        """
        super().__init__(*args, **kwargs)
        needless = (DatasetsCallback, PlacementGroupCleanerCallback)
        self.needless = needless[:1] if frees_resources and not is_own() else needless

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if not isinstance(each, self.needless)]
