"""The memory of a server's processes: what requests leave is collected and given back, what never ends is kept out.

What a request leaves is in cycles, which Python keeps until they make up a quarter of all objects, and glibc keeps what
is freed. Together that was more than 100 MB. Ray Serve's proxy imports this module, so it imports little.
"""

import gc
import json
import os
import threading
import time
from collections.abc import Callable

from starlette.middleware import Middleware

from mtl_ray.cluster.machine import return_freed_memory
from mtl_ray.cluster.ray_compat import PROXY_CALLBACK
from mtl_ray.inference.bodies import Bodies, WholeBodies

EVERY = 2.0
"""Seconds between two collections."""

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    PROXY_CALLBACK: f"{__name__}.middlewares_of_proxy",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}
"""Variables of the processes of a server, see mallopt(3). A proxy on a busy machine takes longer to start than the 5
seconds after which Ray Serve would give it up."""

LIMITS = "MTL_RAY_SERVE_BODIES"
"""Variable with the arguments of the proxy's `Bodies`, as JSON."""


def middlewares_of_proxy() -> list[Middleware]:
    """Prepare a proxy of Ray Serve, which calls this at its start, and return its middlewares."""
    keep_small()
    return [Middleware(WholeBodies, bodies=Bodies(*json.loads(os.environ[LIMITS])))]


def keep_small() -> None:
    """Collect and give back what this process no longer needs, from now on."""
    gc.freeze()  # what is there stays, so a collection takes milliseconds
    repeat(_give_back, EVERY)


def repeat(work: Callable[[], None], seconds: float) -> None:
    """Do some work again and again, beside all else."""

    def run() -> None:
        while True:
            time.sleep(seconds)
            work()

    threading.Thread(target=run, daemon=True).start()


def _give_back() -> None:
    gc.collect()
    return_freed_memory()
