"""A trace holds the steps that it is asked for, also of a training that is shorter."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from mtl_ray.storage import Folder
from mtl_ray.training.profiler import FIRST, STEPS, TRACE, WARMUP, Trace


@pytest.mark.parametrize(
    ("steps", "first", "number"),
    [(40, FIRST + WARMUP, STEPS), (FIRST + WARMUP + STEPS, FIRST + WARMUP, STEPS), (12, WARMUP, STEPS), (3, 0, 3)],
)
def test_so_many_steps_are_in_the_trace(steps: int, first: int, number: int, tmp_path: Path):
    layer, rows = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with Trace(Folder(str(tmp_path)), steps) as trace:
        for _ in range(steps):
            layer(rows).sum().backward()
            trace.step()
    events = json.loads(gzip.decompress((tmp_path / TRACE).read_bytes()))["traceEvents"]
    names = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep#")}
    assert names == {f"ProfilerStep#{step}" for step in range(first, first + number)}
    assert any(event.get("name") == "aten::addmm" for event in events)
