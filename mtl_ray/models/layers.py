"""Building blocks shared by the architectures."""

from typing import NamedTuple

from torch import Tensor, nn

from mtl_ray.experiment.model import MLPSettings

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Forward(NamedTuple):
    """What a forward pass gives."""

    logits: dict[str, Tensor]
    """(B, num_outputs) by task."""
    shared: Tensor | None
    """(B, ...) the representation that all tasks share, of which gradient-based balancers compare the tasks' gradients:
    the last tensor of the architecture on which every task depends; None if there is none."""


class MLP(nn.Module):
    """Linear, LayerNorm (optional), activation and dropout, once per hidden layer; no layer is the identity."""

    def __init__(self, in_features: int, settings: MLPSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = in_features
        for hidden in settings.hidden:
            layers.append(nn.Linear(width, hidden))
            if settings.layer_norm:
                layers.append(nn.LayerNorm(hidden))
            layers += [ACTIVATIONS[settings.activation](), nn.Dropout(settings.dropout)]
            width = hidden
        self.layers = nn.Sequential(*layers)
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        return self.layers(x)
