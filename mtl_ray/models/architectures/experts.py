"""Experts and the gates that mix them."""

import torch
from torch import Tensor, nn

from mtl_ray.config.model import MLPConfig
from mtl_ray.models.architectures.base import Mixture
from mtl_ray.nn.mlp import MLP, Layer, width_of


class Experts(nn.Module):
    """Networks of one shape over one input; their first layers are computed as one product.

    On a CPU that is faster than one expert after the other, and than batched products; `make bench` measures it.
    """

    def __init__(self, number: int, in_features: int, settings: MLPConfig) -> None:
        super().__init__()
        self.experts = nn.ModuleList(MLP(in_features, settings) for _ in range(number))
        self.out_features = width_of(settings, in_features)

    def __len__(self) -> int:
        return len(self.experts)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return (B, out_features) by expert, from (B, in_features)."""
        layers: list[list[Layer]] = [list(expert.layers) for expert in self.experts]  # pyright: ignore
        if not layers or not layers[0]:
            return [x] * len(self)
        linears = [first.linear for first, *_ in layers]
        weight, bias = torch.cat([each.weight for each in linears]), torch.cat([each.bias for each in linears])
        products = nn.functional.linear(x, weight, bias).chunk(len(self), 1)
        outputs = []
        for (first, *others), product in zip(layers, products, strict=True):
            output = first.of_product(x, product)
            for layer in others:
                output = layer(output)
            outputs.append(output)
        return outputs


class Gate(nn.Module):
    """Softmax weights over experts from the input (Jordan and Jacobs 1994; as in MMoE)."""

    def __init__(self, in_features: int, number: int) -> None:
        super().__init__()
        self.weights = nn.Linear(in_features, number, bias=False)
        self.used: Tensor | None = None
        """(E,) summed weights of the last forward pass in training, without gradient."""

    def forward(self, x: Tensor, experts: Tensor) -> Mixture:
        """Return the mixture of experts (B, E, d), with weights from (B, in_features)."""
        weights = self.weights(x).softmax(1)
        if self.training:
            self.used = weights.detach().sum(0)
        return Mixture(weights, mixed(weights, experts))


def mixed(weights: Tensor, vectors: Tensor) -> Tensor:
    """sum_e w_e x_e, of (B, E) and (B, E, d); with its gradients that is faster on a CPU than many small products."""
    (first, *others), (value, *values) = weights[:, :, None].unbind(1), vectors.unbind(1)
    total = first * value
    for weight, other in zip(others, values, strict=True):
        total = torch.addcmul(total, weight, other)
    return total


def gate_use(model: nn.Module) -> dict[str, Tensor]:
    """Return the (E,) summed weights of this worker's rows in the last forward pass, by gate."""
    gates = {name: part for name, part in model.named_modules() if isinstance(part, Gate)}
    return {name.removeprefix("network."): gate.used for name, gate in gates.items() if gate.used is not None}
