"""Known values that training reads as unseen ones, so that the row which unseen values read has learned something."""

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.schema import FIRST, UNKNOWN

if TYPE_CHECKING:
    from torch import Tensor


def draw_unseen(
    name: str, rows: "Tensor", seed: int, epoch: int, rate: float, length: int | None = None
) -> "dict[str, Tensor]":
    """Return `NAME.unseen`, the values that training reads as unseen ones; nothing where no rate is set.

    Args:
        name: name of the feature; the draws of two features are independent.
        rows: (B,) numbers of the rows.
        seed: seed of the experiment.
        epoch: number of the epoch.
        rate: share of the values.
        length: values of a row, if the feature is a list.

    Returns:
        Flags (B,) bool, or (B, length) for a list.
    """
    import torch

    if not rate:
        return {}
    places = rows if length is None else rows[:, None] * length + torch.arange(length, device=rows.device)
    own = seed + zlib.crc32(name.encode())  # there may be more features than streams
    return {f"{name}.unseen": uniform_rows(places, own, epoch, Stream.VALUE) < rate}


def with_unseen(name: str, column: "Tensor", hidden: "Mapping[str, Tensor]") -> "Tensor":
    """Return the encoded column of a feature with the flagged ones of its known values read as unseen."""
    import torch

    flags = hidden.get(f"{name}.unseen")
    if flags is None:
        return column
    flags = flags if column.ndim == 1 else flags[:, : column.shape[1]]  # the batch may be trimmed
    return torch.where(flags & (column >= FIRST), UNKNOWN, column)
