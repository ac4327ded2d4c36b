"""Encoders of a number to a vector. Each takes (B, 2): the number, 0 if it is missing, and 1 if it is, else 0."""

import math

import torch
from torch import Tensor, nn


class PiecewiseLinearNumber(nn.Linear):
    """A linear layer over the piecewise-linear encoding of a number, from its place among the borders of the pieces.

    Of piece t, which lies between borders t and t + 1, the encoding holds the part that lies below the number: 1 if all
    of it, 0 if none (Gorishniy, Rubachev, Babenko 2022, "On Embeddings for Numerical Features in Tabular Deep
    Learning", equation 1). A missing number has 0 everywhere.
    """

    def __init__(self, num_pieces: int, width: int) -> None:
        super().__init__(num_pieces + 1, width)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as its base class calls it
        """Return (B, width) vectors."""
        pieces = torch.arange(self.in_features - 1, device=input.device, dtype=input.dtype)
        inside = (input[:, :1] - pieces).clamp(0, 1)
        return super().forward(torch.cat([inside, input[:, 1:]], 1))


class PeriodicNumber(nn.Module):
    """relu(linear([sin v, cos v])) with v = 2 pi c x and learned frequencies c (Gorishniy et al. 2022, equation 2)."""

    def __init__(self, num_frequencies: int, scale: float, width: int) -> None:
        """Make the layer; frequencies are drawn from a normal distribution with the deviation `scale`."""
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(num_frequencies) * scale)
        self.linear = nn.Linear(2 * num_frequencies + 1, width)

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, width) vectors."""
        angles, missing = 2 * math.pi * values[:, :1] * self.frequencies, values[:, 1:]
        waves = torch.cat([angles.sin(), angles.cos()], 1) * (1 - missing)
        return torch.relu(self.linear(torch.cat([waves, missing], 1)))
