"""Reading ahead: a thread makes items before they are asked for."""

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")

POLL = 0.1
"""Seconds after which a thread with a full queue checks whether anyone still wants its items."""


def prefetch(items: Iterator[T], number: int) -> Iterator[T]:
    """Yield the same items in the same order, while a thread makes the next `number` of them.

    Prefetching changes speed only, never results. An exception of `items` is raised here, at its place in the order.
    The thread ends after the last item, or when this iterator is closed.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(number)
    unwanted = threading.Event()

    def put(item: T | None, error: BaseException | None = None, *, last: bool = False) -> bool:
        while not unwanted.is_set():
            try:
                ready.put((item, error, last), timeout=POLL)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None, last=True)
        except BaseException as error:
            put(None, error, last=True)
        finally:
            if close := getattr(items, "close", None):
                close()

    thread = threading.Thread(target=run, name="input", daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # pyright: ignore[reportReturnType]
    finally:
        unwanted.set()
        thread.join()
