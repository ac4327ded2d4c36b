"""One of several categories."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from mtl_ray.config.features import CategoricalFeatureConfig
from mtl_ray.config.numbers import DateFeatureConfig
from mtl_ray.config.training import MaskingConfig
from mtl_ray.features.lookup import LookupKind
from mtl_ray.features.observed import observed_rows
from mtl_ray.features.unseen import draw_unseen
from mtl_ray.values.spelling import spelled

if TYPE_CHECKING:
    from torch import Tensor


CategoryConfigT = TypeVar("CategoryConfigT", CategoricalFeatureConfig, DateFeatureConfig)


class CategoryKind(LookupKind[CategoryConfigT]):
    """A category with an embedding."""

    def hide_at_random(self, rows: "Tensor", seed: int, epoch: int, rates: MaskingConfig) -> "dict[str, Tensor]":
        return draw_unseen(self.name, rows, seed, epoch, rates.values)

    @property
    def is_category(self) -> bool:
        return True

    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        return observed_rows(batch[self.name].numpy())


class CategoricalKind(CategoryKind[CategoricalFeatureConfig]):
    """A value of a column."""

    def read(self, values: pa.Array) -> pa.Array:
        return spelled(values, self.config)
