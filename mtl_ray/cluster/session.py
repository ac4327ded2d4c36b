"""The connection to Ray: the cluster that `RAY_ADDRESS` names, otherwise one on this machine."""

import logging
import os
import secrets
import sys
from typing import Any

import ray
import ray.data

from mtl_ray.cluster.ray_compat import quiet_token_setup

_STARTED: set[str] = set()
"""Addresses of the Rays that this process has started."""


def connect(**options: Any) -> None:
    """Join or start Ray, once per process.

    Args:
        options: of `ray.init`, for a Ray that is started here.
    """
    # Workers' reports wait for the controller's next look; the default of 2 s would be felt at every epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(logging_level=logging.WARNING)
    else:
        # The dashboard is on loopback, but other ports of Ray are open to all who reach this machine. So its processes
        # ask each other for a token, which Ray turns on unless RAY_AUTH_MODE says otherwise; here it is one for this
        # run alone. Without "local" Ray would join, or wait for, the cluster that `ray start` last noted on it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        quiet_token_setup()
        # Its one machine is not taken away with a notice. Processes of Ray, as those of trials, have this environment.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # Nobody looks at the dashboard of a Ray that ends with this process, and a dozen processes cost seconds.
        started = {"include_dashboard": False, "logging_level": logging.WARNING, **options}
        ray.init("local", **started)
        _STARTED.add(ray.get_runtime_context().gcs_address)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False


def is_own() -> bool:
    """Whether this process has started Ray, which ends with it and has no dashboard."""
    return ray.is_initialized() and ray.get_runtime_context().gcs_address in _STARTED


def shows_bars() -> bool:
    """Whether progress bars are drawn: in a log file each of their states would be a line of its own."""
    return sys.stderr.isatty()
