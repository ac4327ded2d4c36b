"""A dense vector made elsewhere."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mtl_ray.config.encoders import CustomEncoderConfig
from mtl_ray.config.features import VectorFeatureConfig
from mtl_ray.features.base import Embedded
from mtl_ray.features.dense import DenseKind
from mtl_ray.schema import FittedFeature

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_ray.nn.embedding_parts import EmbeddingParts


class VectorKind(DenseKind[VectorFeatureConfig]):
    """A vector, read as it is or through layers."""

    meaning = "the numbers; NaN for null"

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        import torch
        from torch import nn

        from mtl_ray.nn.compressed_embedding import INITIAL_STD
        from mtl_ray.nn.mlp import MLP
        from mtl_ray.nn.own_encoder import build_own_encoder

        if isinstance(self.config.encoder, CustomEncoderConfig):
            parts.encoders[self.name] = build_own_encoder(self.config.encoder, self.width, (self.config.size,))
        elif self.config.encoder is not None:
            parts.encoders[self.name] = MLP(self.config.size, self.config.encoder)
        parts.empty[self.name] = nn.Parameter(torch.randn(self.width) * INITIAL_STD)
        return {self.name: self.width}

    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        import torch

        x, missing = self.present(batch[self.name], hidden.get(self.name))
        if self.name in parts.encoders:
            x = parts.encoders[self.name](x)
        return Embedded({self.name: torch.where(missing, parts.empty[self.name], x)})
