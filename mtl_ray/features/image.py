"""An image."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mtl_ray.config.encoders import CustomEncoderConfig
from mtl_ray.config.features import ImageFeatureConfig
from mtl_ray.features.base import Embedded
from mtl_ray.features.dense import DenseKind
from mtl_ray.schema import FittedFeature

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_ray.nn.embedding_parts import EmbeddingParts


class ImageKind(DenseKind[ImageFeatureConfig]):
    """An image read by convolutions, of which the last may be each task's own."""

    meaning = "the numbers, row by row, divided by `scale`; NaN for null"

    @property
    def scale(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Divisor of the numbers."""
        return self.config.scale

    def build(self, parts: "EmbeddingParts", fitted: FittedFeature) -> dict[str, int]:
        import torch
        from torch import nn

        from mtl_ray.nn.compressed_embedding import INITIAL_STD
        from mtl_ray.nn.containers import ModuleDict
        from mtl_ray.nn.image_encoder import ImageCNN
        from mtl_ray.nn.own_encoder import build_own_encoder

        encoder, (height, width, depth), dim = self.config.encoder, self.config.shape, self.width
        parts.empty[self.name] = nn.Parameter(torch.randn(dim) * INITIAL_STD)
        if isinstance(encoder, CustomEncoderConfig):
            parts.encoders[self.name] = build_own_encoder(encoder, dim, (depth, height, width))
            return {self.name: dim}
        channels, kernel, shared = encoder.channels, encoder.kernel, encoder.shared_layers
        if shared is None:
            parts.encoders[self.name] = ImageCNN(depth, channels, kernel, dim)
            return {self.name: dim}
        parts.encoders[self.name] = ImageCNN(depth, channels[:shared], kernel, None)
        between = channels[shared - 1] if shared else depth
        tails = {task: ImageCNN(between, channels[shared:], kernel, dim) for task in self.tasks}
        parts.tails[self.name] = ModuleDict(tails)
        return {self.name: dim}

    @property
    def tasks(self) -> list[str]:
        """Tasks that read it: ranking tasks have no context."""
        tasks = self.around.tasks.items()
        return [name for name, task in tasks if task.reads_context or self.config.entity != "context"]

    def embed(
        self,
        parts: "EmbeddingParts",
        batch: "Mapping[str, Tensor]",
        hidden: "Mapping[str, Tensor]",
        vectors: "Mapping[str, Tensor]",
    ) -> Embedded:
        import torch

        x, missing = self.present(batch[self.name], hidden.get(self.name))
        x = parts.encoders[self.name](x.reshape(-1, *self.config.shape).permute(0, 3, 1, 2))
        empty = parts.empty[self.name]
        if self.name not in parts.tails:
            return Embedded({self.name: torch.where(missing, empty, x)})
        tails = parts.tails[self.name].items()  # pyright: ignore[reportCallIssue]
        return Embedded({}, by_task={task: torch.where(missing, empty, tail(x)) for task, tail in tails})
