"""How the memory of a worker's process is kept."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLD = 32 << 20
"""Bytes below which a piece of memory is one that is kept; glibc takes no more."""

KEPT = 1 << 30
"""Bytes of freed memory that a worker keeps for its next step."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Within it glibc keeps what a step frees for the next one, where it gives memory and nobody told it how.

    Ray Train runs a worker in a thread. Memory of threads goes back to the system as soon as it is free, and comes back
    in each step as thousands of page faults. At the end all that is free goes back: the next training of the process
    may be in a thread that takes its memory from elsewhere, as each trial of a search. See mallopt(3), malloc_trim(3).
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or any(name.startswith("MALLOC_") for name in os.environ):
        yield
        return
    library.mallopt(-3, THRESHOLD)  # M_MMAP_THRESHOLD
    library.mallopt(-1, KEPT)  # M_TRIM_THRESHOLD
    try:
        yield
    finally:
        library.malloc_trim(0)
