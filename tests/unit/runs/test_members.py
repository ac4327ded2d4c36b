"""How many members are trained at once, and how they are stopped."""

import threading
from typing import Any

import pytest

from mtl_ray.runs import members
from mtl_ray.runs.members import Stoppable, number_at_once
from tests.support import small_experiment


@pytest.mark.parametrize(
    ("training", "nodes", "expected"),
    [
        ({}, [{"CPU": 2.0}], 2),  # a worker takes half a CPU, and one stays free
        ({"num_workers": 2}, [{"CPU": 2.0}], 1),
        ({"num_workers": {"min": 1, "max": 2}}, [{"CPU": 2.0}], 1),
        ({"cpus_per_worker": 1.0}, [{"CPU": 4.0}], 3),
        ({}, [{"CPU": 64.0}], 5),  # there are no more
        ({"cpus_per_worker": 1.0}, [{"CPU": 3.0}, {"CPU": 2.0}], 3),
        ({}, [{"CPU": 1.0}], 1),  # as a training alone would
        ({}, [], 1),
        ({"use_gpu": True}, [{"CPU": 64.0, "GPU": 2.0}, {"CPU": 8.0}], 2),
        ({"use_gpu": True, "num_workers": 2}, [{"CPU": 64.0, "GPU": 2.0}], 1),
    ],
)
def test_members_are_trained_at_once_as_long_as_a_cpu_stays_free(training: dict[str, Any], nodes: list, expected: int):
    changes = {f"training__{name}": value for name, value in training.items()}
    assert number_at_once(small_experiment(training__ensemble=5, **changes).training, nodes) == expected


def test_what_starts_after_the_stop_is_ended_too(monkeypatch: pytest.MonkeyPatch):
    ended: list[str] = []
    monkeypatch.setattr(members, "abort_controller", ended.append)
    under_way = Stoppable()
    under_way.add("first")
    assert not ended
    under_way.stop()
    thread = threading.Thread(target=under_way.add, args=("second",))
    thread.start()
    thread.join()
    assert ended == ["first", "second"]
    assert under_way.stopped
