"""Where the time of an epoch goes on a worker, and how much memory it takes."""

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
"""DDP measures its own communication in one step of so many, and in the first ten."""


class StepTimer:
    """Measures one epoch after another.

    - `system/step_seconds`: from one step to the next;
    - `system/input_wait`: share of the time in which the worker had no batch to work on;
    - `system/communication`: share in which it waited for other workers or for data on their way to them: the seconds
      inside of our own collectives (`distributed`), and what DDP says of its own: from the end of the backward pass to
      the last gradient's arrival, in the steps that it samples. A worker that is faster than another waits here. With
      GPUs collectives of both kinds are queued on the device, where only a trace (`--profile`) sees them;
    - `system/memory_bytes`: the most that the process has taken so far, on a GPU the most of the device's memory.
    """

    def __init__(self, parallel: nn.Module, device: torch.device) -> None:
        """Of the model as it is trained, wrapped in DDP if there are several workers."""
        self.ddp = parallel if isinstance(parallel, DistributedDataParallel) else None
        if self.ddp is not None:
            self.ddp._set_ddp_runtime_logging_sample_rate(SAMPLE)
        self.device = device
        self._begin()

    def _begin(self) -> None:
        self.began, self.waited, self.steps = time.monotonic(), 0.0, 0
        self.before = WAITING.seconds

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches, one for each step of an epoch that begins now."""
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
        """What this worker has measured since the epoch began."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        communicated = WAITING.seconds - self.before + self.steps * self._exposed()
        return {
            "system/step_seconds": seconds / max(self.steps, 1),
            "system/input_wait": self.waited / seconds,
            "system/communication": communicated / seconds,
            "system/memory_bytes": float(peak_memory(self.device)),
        }

    def over_workers(self) -> dict[str, float]:
        """The means of all workers' measurements; of memory the largest. Every worker has to ask."""
        own = self.own()
        if world_size() == 1:
            return own
        row = torch.tensor([list(own.values())], dtype=torch.float64, device=self.device)
        rows = gather_rows(row)
        largest = dict(zip(own, rows.amax(0).tolist(), strict=True))
        means = dict(zip(own, rows.mean(0).tolist(), strict=True))
        return {name: largest[name] if name == "system/memory_bytes" else value for name, value in means.items()}

    def _exposed(self) -> float:
        """Seconds a step by which DDP's communication outlasts the backward pass."""
        if self.ddp is None or self.device.type != "cpu":
            return 0.0
        data = self.ddp._get_ddp_logging_data()
        exposed = data.get("avg_backward_comm_time", 0) - data.get("avg_backward_compute_comm_overlap_time", 0)
        return max(0, exposed) / 1e9


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has taken: of the GPU if it has one, else of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
