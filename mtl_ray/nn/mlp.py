"""The multi-layer perceptron."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from mtl_ray.config.model import MLPConfig

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Layer(nn.Module):
    """Linear, LayerNorm (optional), activation and dropout, around a residual connection (optional)."""

    def __init__(self, in_features: int, out_features: int, settings: MLPConfig) -> None:
        super().__init__()
        norm = [nn.LayerNorm(out_features)] if settings.layer_norm else []
        dropout = [nn.Dropout(settings.dropout)] if settings.dropout else []
        self.block = nn.Sequential(
            nn.Linear(in_features, out_features), *norm, ACTIVATIONS[settings.activation](), *dropout
        )
        self.residual = settings.residual and in_features == out_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        return self.of_product(x, self.linear(x))

    @property
    def linear(self) -> nn.Linear:
        """What it begins with."""
        return self.block[0]  # pyright: ignore[reportReturnType]

    def of_product(self, x: Tensor, product: Tensor) -> Tensor:
        """The output from the input and `linear` of it."""
        for part in itertools.islice(self.block, 1, None):
            product = part(product)
        return x + product if self.residual else product


def width_of(settings: MLPConfig, in_features: int) -> int:
    """Width of the output of an `MLP`."""
    return settings.hidden[-1] if settings.hidden else in_features


class MLP(nn.Module):
    """A layer per hidden width; no layer is the identity."""

    def __init__(self, in_features: int, settings: MLPConfig, hidden: Sequence[int] | None = None) -> None:
        super().__init__()
        widths = [in_features, *(settings.hidden if hidden is None else hidden)]
        pairs = itertools.pairwise(widths)
        self.layers = nn.Sequential(*(Layer(i, o, settings) for i, o in pairs))
        self.out_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        return self.layers(x)
