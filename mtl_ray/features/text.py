"""A short text."""

from typing import TYPE_CHECKING

from mtl_ray.config.features import TextFeatureConfig
from mtl_ray.features.value_list import ValueListKind
from mtl_ray.schema import FittedFeature

if TYPE_CHECKING:
    from mtl_ray.nn.embedding_parts import EmbeddingParts


class TextKind(ValueListKind[TextFeatureConfig]):
    """The words of a text."""

    separator = None

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        from mtl_ray.nn.sequence_encoders import build_sequence_encoder

        widths = super().build(parts, fitted)
        encoder = build_sequence_encoder(self.config.encoder, self.width, self.config.max_length)
        if encoder is not None:
            parts.encoders[self.name] = encoder
        return widths
