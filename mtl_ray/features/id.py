"""The key of a user or an item."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mtl_ray.config.features import IdFeatureConfig
from mtl_ray.features.lookup import LookupKind
from mtl_ray.features.observed import marked
from mtl_ray.schema import ITEM_SUPPORT, UNKNOWN, USER_SUPPORT, FittedFeature

if TYPE_CHECKING:
    from torch import Tensor


class IdKind(LookupKind[IdFeatureConfig]):
    """An id with an embedding; a hidden one reads like an id that training has not seen."""

    nothing = UNKNOWN

    def size(self, fitted: FittedFeature) -> str:
        return super().size(fitted) if self.config.embed else "a key alone"

    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        """Return the number of training rows of each id."""
        support = batch[USER_SUPPORT if self.config.entity == "user" else ITEM_SUPPORT]
        return marked(support.double().numpy(), batch[self.name].numpy())
