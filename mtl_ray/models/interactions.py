"""Interactions of the features' vectors before the trunk."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl_ray.config.base import implementation_of
from mtl_ray.config.interactions import DCNv2Config, InteractionConfig


class Concatenation(nn.Module):
    """All vectors and plain numbers side by side; `width` is the width of the output."""

    def __init__(
        self, dims: Mapping[str, int], num_scalars: int, numbers: set[str], settings: InteractionConfig
    ) -> None:
        super().__init__()
        self.width = sum(dims.values()) + num_scalars

    def forward(self, vectors: Mapping[str, Tensor], scalars: Tensor) -> Tensor:
        """Return (B, width) from vectors (B, dim) by feature and (B, num_scalars)."""
        return torch.cat([*vectors.values(), scalars], 1)


class FactorisationMachine(Concatenation):
    """`Concatenation` and ((sum_i v_i)^2 - sum_i v_i^2) / 2.

    The sum of that vector over its coordinates is the pairwise term of a factorisation machine (Rendle 2010); the trunk
    reads the vector itself, as in neural FM (He and Chua 2017).
    """

    def __init__(
        self, dims: Mapping[str, int], num_scalars: int, numbers: set[str], settings: InteractionConfig
    ) -> None:
        super().__init__(dims, num_scalars, numbers, settings)
        self.width += next(iter(dims.values()))

    def forward(self, vectors: Mapping[str, Tensor], scalars: Tensor) -> Tensor:  # noqa: D102
        stacked = torch.stack(list(vectors.values()))
        pairs = (stacked.sum(0).square() - stacked.square().sum(0)) / 2
        return torch.cat([super().forward(vectors, scalars), pairs], 1)


class CrossNetwork(Concatenation):
    """Cross layers x_{l+1} = x_0 * (W_l x_l + b_l) + x_l over the concatenation x_0 (DCN-V2, Wang et al. 2021).

    The trunk reads their output (the stacked form).
    """

    def __init__(self, dims: Mapping[str, int], num_scalars: int, numbers: set[str], settings: DCNv2Config) -> None:
        super().__init__(dims, num_scalars, numbers, settings)
        self.layers = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(settings.layers))

    def forward(self, vectors: Mapping[str, Tensor], scalars: Tensor) -> Tensor:  # noqa: D102
        start = x = super().forward(vectors, scalars)
        for layer in self.layers:
            x = start * layer(x) + x
        return x


class PairwiseDots(nn.Module):
    """Dot products of all pairs of vectors, and a vector made from the numbers (DLRM, Naumov et al. 2019).

    A bottom layer turns the numbers into one more vector. Without any number there is no bottom layer.
    """

    def __init__(
        self, dims: Mapping[str, int], num_scalars: int, numbers: set[str], settings: InteractionConfig
    ) -> None:
        super().__init__()
        dim = next(iter(dims.values()))
        self.numbers = [name for name in dims if name in numbers]
        dense = len(self.numbers) * dim + num_scalars
        self.bottom = nn.Sequential(nn.Linear(dense, dim), nn.ReLU()) if dense else None
        count = len(dims) - len(self.numbers) + (1 if dense else 0)
        self.width = (dim if dense else 0) + count * (count - 1) // 2
        pairs = torch.tril_indices(count, count, -1, device="cpu")  # no checkpoint has them: a model is built on "meta"
        self.register_buffer("pairs", pairs, persistent=False)

    def forward(self, vectors: Mapping[str, Tensor], scalars: Tensor) -> Tensor:
        """Return (B, width) from vectors (B, dim) by feature and (B, num_scalars)."""
        parts = [vector for name, vector in vectors.items() if name not in self.numbers]
        dense = []
        if self.bottom is not None:
            dense.append(self.bottom(torch.cat([*(vectors[n] for n in self.numbers), scalars], 1)))
        stacked = torch.stack(dense + parts, 1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))
        return torch.cat([*dense, products[:, self.pairs[0], self.pairs[1]]], 1)  # pyright: ignore


def build_interaction(
    settings: InteractionConfig, dims: Mapping[str, int], num_scalars: int, numbers: set[str]
) -> Concatenation | PairwiseDots:
    """Build the interaction that the experiment names.

    Args:
        settings: kind and sizes.
        dims: width of each vector.
        num_scalars: plain numbers beside the vectors.
        numbers: features whose vector comes from a number.
    """
    return implementation_of(settings)(dims, num_scalars, numbers, settings)
