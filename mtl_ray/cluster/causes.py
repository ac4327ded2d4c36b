"""The errors inside an error of Ray, and the one that a user can do something about."""

import errno
import re
from pathlib import Path

from mtl_ray.cluster.ray_compat import original_error

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that is full, or of a full share of it."""

_TOLD = re.compile(
    r"(?:No space left on device|Disk quota exceeded|local disk's utilization is over capacity)"
    r"(?:: '(?P<path>[^'\n]+)')?"
)
"""Texts of such an error, for where a process of Ray has sent nothing else."""


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and those that it wraps, the outermost first."""
    found = []
    while error is not None and error not in found:
        found.append(error)
        failures = list(getattr(error, "worker_failures", {}).values())  # of Ray Train, by rank
        named = [getattr(error, name, None) for name in ("cause", "controller_failure")]
        inner = [*named, original_error(error), error.__cause__]
        error = next((each for each in [*inner, *failures] if each is not None), None)
    return found


def full_disk(error: BaseException) -> str | None:
    """Return a line that says which disk is full, or None if that is not what happened."""
    found, path = False, None
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            found, path = True, path or cause.filename
        if told := _TOLD.search(str(cause)):
            found, path = True, path or told["path"]
    if not found:
        return None
    where = (
        f"of {Path(path).parent}, where {Path(path).name} could not be written"
        if path
        else "of `training.output`, `data.output` or the temporary folder of a node"
    )
    return f"the disk is full: that {where}; make room there, then continue, or run the command again"
