"""How the memory of a worker's process is kept."""

import ctypes
import os

THRESHOLD = 32 << 20
"""Bytes below which a piece of memory is one that is kept; glibc takes no more."""

KEPT = 1 << 30
"""Bytes of freed memory that a worker keeps for its next step."""


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next one, where it is glibc that gives memory and nobody told it how.

    Ray Train runs a worker in a thread. Memory of threads goes back to the system as soon as it is free, and comes back
    in each step as thousands of page faults. See mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt(-3, THRESHOLD)  # M_MMAP_THRESHOLD
        mallopt(-1, KEPT)  # M_TRIM_THRESHOLD
