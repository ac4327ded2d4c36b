"""A thread has the next items ready, in their order."""

import threading
import time

import pytest

from mtl_ray.data.prefetch import prefetch


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "input"]


def test_the_items_are_those_and_in_that_order():
    assert list(prefetch(iter(range(100)), 3)) == list(range(100))
    assert list(prefetch(iter([None, 0, None]), 1)) == [None, 0, None]
    assert not threads()


def test_so_many_are_made_before_they_are_asked_for():
    made = []

    def items():
        for number in range(10):
            made.append(number)
            yield number

    taken = prefetch(items(), 2)
    assert next(taken) == 0
    wait_until(lambda: len(made) == 4)  # one is used, two are ready, one waits for room
    time.sleep(0.3)
    assert len(made) == 4
    taken.close()


def test_an_error_is_raised_at_its_place():
    def items():
        yield 1
        raise KeyError("gone")

    taken = prefetch(items(), 5)
    assert next(taken) == 1
    with pytest.raises(KeyError, match="gone"):
        next(taken)
    assert not threads()


def test_the_thread_and_its_source_end_with_who_asks():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    taken = prefetch(endless(), 2)
    assert next(taken) == 1
    assert threads()
    taken.close()
    assert closed.is_set()
    assert not threads()


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
