"""Counter-based random draws: each is a hash of a seed and of where it is used, so nothing depends on call order.

A draw is the finalizer of SplitMix64 (Steele et al. 2014) on signed 64-bit integers, which NumPy and PyTorch both wrap
around. The numbers of the streams are part of the results: other numbers give other splits and other masks.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Integers = TypeVar("Integers", np.ndarray, "Tensor")

_GAMMA = 0x9E3779B97F4A7C15


class Stream(IntEnum):
    """The purpose of a draw; draws of two streams are independent. Their numbers are below 257, see `uniform_rows`."""

    MASKS = 0
    """Hidden inputs, in training: the first of up to 128 streams, one for each masking rate."""
    ROW = 1
    """The split of a row, in `prepare`."""
    USER = 2
    """The split of a user, in `prepare`."""
    ITEM = 3
    """The split of an item, in `prepare`."""
    PARTITION = 4
    """The partition that stages the rows of a user, in `prepare`."""
    FOLD = 5
    """The fold of a row whose statistics come from the other folds, in `prepare`."""
    HOLDOUT = 6
    """The row, user (6) or item (7) whose training rows become validation rows, in `prepare`."""
    SAMPLE = 8
    """The training rows in which `prepare` looks for inputs that tell a label, and their halves."""
    HISTORY_SHARE = 128
    """The share of its history that a training row sees."""
    HISTORY_ENTRY = 129
    """The entries of its history that a training row sees."""
    AUDIENCE_SHARE = 130
    """The share of its item's audience that a training row sees."""
    AUDIENCE_ENTRY = 131
    """The entries of its item's audience that a training row sees."""
    VALUE = 132
    """The values that a training row reads as unseen ones."""
    MEMBER = 133
    """The seed of a member of an ensemble."""
    BALANCER_ROWS = 255
    """Rows on which a balancer measures the effect of a step."""
    HALVES = 256
    """The half of an entity's rows that a simulated step learns from (Meta-Embedding)."""


def mix(values: np.ndarray, seed: int) -> np.ndarray:
    """Scramble (n,) integers with a seed; returns (n,) uint64."""
    start = np.uint64(_GAMMA * (2 * seed + 1) & 0xFFFF_FFFF_FFFF_FFFF)
    return _finalize((values.astype(np.uint64) + start).view(np.int64)).view(np.uint64)


def uniform_keys(values: np.ndarray, seed: int) -> np.ndarray:
    """Draw a number in [0, 1) for each of (n,) uint64 hashes; returns (n,) float64."""
    return (mix(values, seed) >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def uniform_rows(rows: "Tensor", seed: int, epoch: int, stream: "int | Tensor") -> "Tensor":
    """Draw a number in [0, 1) for each of (B,) int64 row numbers; returns (B,) float64, for (S, 1) streams (S, B)."""
    place = (seed * 1_000_003 + epoch) * 257 + stream
    start = int(_scrambled(np.array([place]))[0]) if isinstance(place, int) else _scrambled(place)
    return _logical_shift(_scrambled(rows + start), 11).double() / float(1 << 53)


def _scrambled(z: Integers) -> Integers:
    return _finalize(z + _signed(_GAMMA))


def _finalize(z: Integers) -> Integers:
    z = (z ^ _logical_shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _logical_shift(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _logical_shift(z, 31)


def _logical_shift(z: Integers, bits: int) -> Integers:
    """Shift right and fill with zeros; signed integers would be filled with their sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
