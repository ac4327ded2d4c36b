"""A trace of some training steps by the PyTorch profiler."""

import gzip
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from mtl_ray.storage import Folder

TRACE = "trace.json.gz"

FIRST, WARMUP, STEPS = 10, 2, 10
"""Steps before the profiler starts, steps that it runs without recording, and steps that it records."""


class Trace:
    """A trace of the steps FIRST + WARMUP to FIRST + WARMUP + STEPS of a process, or of its last ones.

    It is a context manager. Call `step` after every step within it; the trace is written as soon as it is complete.
    """

    def __init__(self, folder: Folder, steps: int) -> None:
        """Write the trace into `folder`; `steps` is the number of steps of the training."""
        self.folder = folder
        first = max(0, min(FIRST, steps - WARMUP - STEPS))
        warmup = max(0, min(WARMUP, steps - STEPS))
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Profiler won't be using warmup", UserWarning)  # few steps leave none
            active = min(STEPS, max(1, steps))
            plan = schedule(skip_first=first, wait=0, warmup=warmup, active=active, repeat=1)
        self.profile = profile(
            activities=kinds,
            schedule=plan,
            on_trace_ready=self._write,
            record_shapes=True,
        )

    def __enter__(self) -> "Trace":
        self.profile.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.profile.stop()

    def step(self) -> None:
        """Tell the profiler that a step has ended."""
        self.profile.step()

    def _write(self, ended: profile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            ended.export_chrome_trace(str(path))
            self.folder.write_bytes(TRACE, gzip.compress(path.read_bytes()))
