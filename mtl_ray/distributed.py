"""Sums and concatenations over ranks; identities in a single process."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Clock:
    """A sum of the seconds spent in `running` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the duration of the block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - start


WAITING = Clock()
"""Seconds that this process has spent in the sums and concatenations of this module."""


def world_size() -> int:
    """Return the number of workers."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this worker, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, without gradient."""
    total = tensor.detach().clone()
    if world_size() > 1:
        with WAITING.running():
            dist.all_reduce(total)
    return total


def gather_rows(tensor: Tensor) -> Tensor:
    """Return the concatenation of the (n, ...) tensors of all ranks, on every rank; n may differ between ranks."""
    return gather_each([tensor])[0]


def gather_each(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return `gather_rows` of each of several tensors of one type, with two exchanges for all of them."""
    if world_size() == 1 or not tensors:
        return list(tensors)
    sizes = _sizes([tensor.numel() for tensor in tensors], tensors[0].device)
    flat = _gather(torch.cat([tensor.reshape(-1) for tensor in tensors]), list(map(sum, sizes)))
    parts = [part.split(own) for part, own in zip(flat, sizes, strict=True)]
    return [torch.cat(each).view(-1, *t.shape[1:]) for t, each in zip(tensors, zip(*parts, strict=True), strict=True)]


def gather_rows_with_gradient(tensor: Tensor) -> Tensor:
    """Return `gather_rows` of a tensor, with gradients that flow back.

    Each rank computes a function of all rows, and the gradient is that of the sum of these functions: a row's gradient
    is the sum over ranks. All ranks must take part in the backward pass, too.
    """
    return tensor if world_size() == 1 else _GatherRows.apply(tensor)  # pyright: ignore[reportReturnType]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        sizes = [size for (size,) in _sizes([len(tensor)], tensor.device)]
        start = sum(sizes[: rank()])
        ctx.own = slice(start, start + sizes[rank()])
        return torch.cat(_gather(tensor, sizes))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        # The layout must be the same on all ranks, and that of a gradient may be any.
        return sum_over_ranks(gradient.contiguous())[ctx.own]


def _sizes(own: list[int], device: torch.device) -> list[list[int]]:
    """Return the numbers of every rank."""
    return torch.cat(_gather(torch.tensor([own], device=device), [1] * world_size())).tolist()


def _gather(tensor: Tensor, sizes: list[int]) -> list[Tensor]:
    padded = tensor
    if len(tensor) < max(sizes):
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in sizes]
    with WAITING.running():
        dist.all_gather(parts, padded.contiguous())
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
