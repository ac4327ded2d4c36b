"""Memory that one step frees and the next one takes."""

import ctypes
import os
import subprocess
import sys

import pytest

CHURN = """
import resource, threading
import numpy as np
from mtl_ray.training.allocator import keep_freed_memory


def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20


def churn() -> None:
    with keep_freed_memory():
        for turn in range(300):
            if turn == 100:
                before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            parts = [np.ones(1 << 17) for _ in range(12)]  # a mebibyte each
        print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
        del parts
        print(resident())
    print(resident())


thread = threading.Thread(target=churn)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="memory is not given by glibc")
def test_it_is_taken_without_page_faults_and_given_back_at_the_end():
    """In a thread; glibc 2.36 by itself has 278,400 of them."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", CHURN], check=True, capture_output=True, text=True, env=plain)
    faults, kept, left = map(int, done.stdout.split())
    assert faults < 1000
    assert left <= kept - 12
