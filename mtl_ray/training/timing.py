"""Measurements of an epoch on one worker: where its time goes, and how much memory it takes."""

import resource
import time
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mtl_ray.distributed import WAITING, gather_rows, world_size

T = TypeVar("T")

SAMPLE = 10
"""Steps between two in which DDP measures its own communication; it also does in the first ten."""


class StepTimer:
    """A timer of one epoch after another.

    - `system/step_seconds`: mean seconds from one step to the next;
    - `system/input_wait`: share of the time in which the worker had no batch to work on;
    - `system/communication`: share of the time in which it waited for other workers, or for data on the way to them.
      This is the time inside our own collectives (`distributed`), and DDP's own measurement, from the end of the
      backward pass to the arrival of the last gradient, in the steps that it samples. A worker that is faster than
      another waits here. On GPUs both kinds of collectives are queued on the device, where only a trace (`--profile`)
      sees them;
    - `system/memory_bytes`: the most memory that the process has taken so far, on a GPU that of the device.
    """

    def __init__(self, parallel: nn.Module, device: torch.device) -> None:
        """Measure the training of a model, which is wrapped in DDP if there are several workers."""
        self.ddp = parallel if isinstance(parallel, DistributedDataParallel) else None
        if self.ddp is not None:
            self.ddp._set_ddp_runtime_logging_sample_rate(SAMPLE)
        self.device = device
        self._begin()

    def _begin(self) -> None:
        self.began, self.waited, self.steps = time.monotonic(), 0.0, 0
        self.before = WAITING.seconds

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield batches, one for each step of an epoch that begins now, and measure the wait for them."""
        self._begin()
        while True:
            start = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - start
            if batch is None:
                return
            yield batch
            self.steps += 1

    def own(self) -> dict[str, float]:
        """Return this worker's measurements since the epoch began."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        communicated = WAITING.seconds - self.before + self.steps * self._exposed()
        return {
            "system/step_seconds": seconds / max(self.steps, 1),
            "system/input_wait": self.waited / seconds,
            "system/communication": communicated / seconds,
            "system/memory_bytes": float(peak_memory(self.device)),
        }

    def over_workers(self) -> dict[str, float]:
        """Return the means over all workers, for memory the maximum. Every worker has to call it."""
        own = self.own()
        if world_size() == 1:
            return own
        row = torch.tensor([list(own.values())], dtype=torch.float64, device=self.device)
        rows = gather_rows(row)
        largest = dict(zip(own, rows.amax(0).tolist(), strict=True))
        means = dict(zip(own, rows.mean(0).tolist(), strict=True))
        return {name: largest[name] if name == "system/memory_bytes" else value for name, value in means.items()}

    def _exposed(self) -> float:
        """Return the seconds per step by which DDP's communication outlasts the backward pass."""
        if self.ddp is None or self.device.type != "cpu":
            return 0.0
        data = self.ddp._get_ddp_logging_data()
        exposed = data.get("avg_backward_comm_time", 0) - data.get("avg_backward_compute_comm_overlap_time", 0)
        return max(0, exposed) / 1e9


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that this process has taken: of the GPU if it has one, otherwise of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
