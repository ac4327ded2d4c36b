"""The memory allocator of a worker's process."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLD = 32 << 20
"""Bytes below which freed memory is kept; the largest value that glibc accepts."""

KEPT = 1 << 30
"""Bytes of freed memory that a worker keeps for its next step."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let glibc keep memory that a step frees for the next one, within the block.

    Ray Train runs a worker in a thread. Memory freed by threads returns to the system at once, and is taken again in
    each step by thousands of page faults. At the end of the block all free memory is returned: the next training of
    the process, such as the next trial of a search, may run in a thread that allocates from elsewhere. Nothing changes
    without glibc, or if the environment already configures it. See mallopt(3), malloc_trim(3).
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
