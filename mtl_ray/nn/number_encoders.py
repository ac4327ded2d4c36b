"""Encoders of a number to a vector. Each takes (B, 2): the number, 0 if it is missing, and 1 if it is, else 0."""

import math

import numpy as np
import torch
from torch import Tensor, nn


class PiecewiseLinearNumber(nn.Linear):
    """A linear layer over the piecewise-linear encoding of a number.

    Of the piece between borders b_t and b_t+1 the encoding holds the part that lies below the number x,
    (x - b_t) / (b_t+1 - b_t) within [0, 1] (Gorishniy, Rubachev, Babenko 2022, "On Embeddings for Numerical Features
    in Tabular Deep Learning", equation 1; their ends are open). A missing number has 0 everywhere.
    """

    borders: Tensor

    def __init__(self, borders: np.ndarray, width: int) -> None:
        """Make the layer.

        Args:
            borders: ascending numbers.
            width: numbers in a vector.
        """
        borders = np.unique(borders.astype(np.float32))
        super().__init__(max(1, len(borders) - 1) + 1, width)
        if len(borders) < 2:  # all numbers are equal, and in the only piece
            borders = np.append(borders, borders[-1] + 1)
        self.register_buffer("borders", torch.tensor(borders))  # on the device of the layer

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as its base class calls it
        """Return (B, width) vectors."""
        return super().forward(self.encode(input))

    @torch.no_grad()
    def copy_from(self, other: "PiecewiseLinearNumber", scale: float = 1.0, shift: float = 0.0) -> None:
        """Take the vectors of another layer at the own borders and for a missing number.

        Args:
            other: the other layer.
            scale: with `shift`, turns a number of this layer into one of the other: scale x + shift.
            shift: see `scale`.
        """
        present = torch.stack([self.borders * scale + shift, torch.zeros_like(self.borders)], 1)
        vectors = other(present.to(other.weight.dtype))
        missing = other(torch.tensor([[0.0, 1.0]], dtype=other.weight.dtype))
        self.bias.copy_(vectors[0])
        self.weight.copy_(torch.cat([vectors[1:] - vectors[:-1], missing - vectors[:1]]).T)

    def encode(self, values: Tensor) -> Tensor:
        """Return the (B, T + 1) encoding, and whether the number is missing."""
        value, missing = values[:, :1], values[:, 1:]
        low, high = self.borders[:-1].to(value.dtype), self.borders[1:].to(value.dtype)
        parts = ((value - low) / (high - low)).clamp(0, 1)
        return torch.cat([parts * (1 - missing), missing], 1)


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
