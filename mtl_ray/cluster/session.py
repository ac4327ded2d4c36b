"""Connect to Ray: the cluster that `RAY_ADDRESS` names, or else one started on this machine."""

import logging
import os
import secrets
import sys
from typing import Any

import ray
import ray.data

from mtl_ray.cluster.ray_compat import quiet_token_setup, stay_on_loopback

_STARTED: set[str] = set()
"""Addresses of the Ray instances that this process has started."""


def connect(**options: Any) -> None:
    """Join or start Ray, once per process.

    Args:
        options: options of `ray.init` for a Ray that is started here.
    """
    # A worker's report waits for the controller's next poll; the default of 2 s would delay every epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(logging_level=logging.WARNING)
    else:
        # Its processes listen on the loopback and authenticate each other by a token, which Ray does by default; this
        # one is for this run alone. Without "local" Ray would join, or wait for, the cluster that `ray start` last
        # started on this machine.
        stay_on_loopback()
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        quiet_token_setup()
        # No cloud takes away this machine with a notice. Ray's processes, such as trials, inherit this environment.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # Nobody uses the dashboard of a Ray that ends with this process, and its dozen processes cost seconds.
        started = {"include_dashboard": False, "logging_level": logging.WARNING, **options}
        ray.init("local", **started)
        _STARTED.add(ray.get_runtime_context().gcs_address)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False


def is_own() -> bool:
    """Return whether this process has started Ray, which then ends with it and has no dashboard."""
    return ray.is_initialized() and ray.get_runtime_context().gcs_address in _STARTED


def shows_bars() -> bool:
    """Return whether to draw progress bars. In a log file each update would be a line of its own."""
    return sys.stderr.isatty()
