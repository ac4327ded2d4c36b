"""The position of a training, and the seeds of its random draws."""

from dataclasses import dataclass, field

import torch


@dataclass
class Progress:
    """The position that a run has reached, and its best result."""

    epoch: int = 0
    step: int = 0
    """Steps done within the epoch."""
    best: float | None = None
    best_epoch: int = -1
    stopped: bool = False
    """True if a callback has ended the training."""
    sums: list[float] = field(default_factory=list)
    """Loss sums of each task, then label counts, since the epoch began."""


def seed_generators(device: torch.device, *place: int) -> None:
    """Seed the generators of the CPU and a device from a place in a training: seed, epoch, step and so on."""
    seed = hash(place) & 0x7FFF_FFFF_FFFF_FFFF
    # `torch.manual_seed` seeds all kinds of devices, a millisecond with none of them.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
