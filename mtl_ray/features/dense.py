"""Lists of numbers of one length: what vectors and images share."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.features import ImageFeatureConfig, VectorFeatureConfig
from mtl_ray.features.base import EncodedColumn, FeatureKind, FittedState
from mtl_ray.schema import FittedFeature
from mtl_ray.values.vectors import bad_vectors, to_vectors

if TYPE_CHECKING:
    from torch import Tensor

DenseConfigT = TypeVar("DenseConfigT", VectorFeatureConfig, ImageFeatureConfig)


class DenseKind(FeatureKind[DenseConfigT]):
    """A dense vector; one without a value, or hidden, reads a trained vector."""

    meaning: str
    """How the encoded numbers are made, see `EncodedColumn`."""
    scale = 1.0
    """Divisor of the numbers."""

    def bad_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        if (column := self.column_in(table)) in table.column_names:
            for wrong, why in bad_vectors(self.raw(table), self.config.size):
                yield wrong, f"{column} {why}"

    def mend(self, values: pa.Array) -> tuple[pa.Array, dict[str, int]]:
        counts = {}
        for unusable, why in bad_vectors(values, self.config.size):
            counts[why] = int(unusable.sum())
            values = pc.if_else(pa.array(unusable), None, values)
        return values, counts

    def encoded_columns(self, fitted: FittedFeature) -> dict[str, EncodedColumn]:
        return {self.name: EncodedColumn(self.meaning, "float32", (self.config.size,), is_nullable=True)}

    def encode_values(self, values: pa.Array, state: FittedState) -> np.ndarray:
        return to_vectors(values, self.config.size, self.name) / np.float32(self.scale)

    def present(self, column: "Tensor", hide: "Tensor | None") -> "tuple[Tensor, Tensor]":
        """Return the (B, size) numbers, 0 where there are none, and (B, 1) where there are none."""
        import torch

        missing = torch.isnan(column[:, :1]) if hide is None else torch.isnan(column[:, :1]) | hide[:, None]
        return torch.where(missing, torch.zeros_like(column), column), missing

    def size(self, fitted: FittedFeature) -> str:
        return f"{self.config.size:,} numbers"

    def observed(self, batch: "Mapping[str, Tensor]") -> np.ndarray:
        """Return the norm of each vector."""
        import torch

        return torch.linalg.vector_norm(batch[self.name].double(), dim=1).numpy()
