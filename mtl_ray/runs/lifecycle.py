"""The beginning and the end of a run: its name, and its status in MLflow."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mtl_ray.config import Experiment
from mtl_ray.tracking.tracked_run import Run


def new_name(experiment: Experiment, kind: str = "") -> str:
    """Return a name that no other run has: the experiment's, the kind of run, the time, and four random digits."""
    return f"{experiment.name}{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def resume_command(command: str, experiment: Experiment, name: str) -> str:
    """Return what continues a run: a command line, or the call of a program that holds the data."""
    if experiment.data.needs_frames:
        return f'mtl_ray.{command}(experiment, interactions=..., resume="{name}")'
    return f"mtl-ray {command} EXPERIMENT --resume {name}"


@contextmanager
def finish_on_exit(
    run: Run, echo: Callable[[str], None], resume_command: str, so_far: Callable[[], str] = str
) -> Iterator[None]:
    """End the run in MLflow as FINISHED, KILLED or FAILED, depending on how the block ends.

    Args:
        run: the run of the block.
        echo: receives a line that says how to continue, unless the block succeeds.
        resume_command: the command that continues.
        so_far: returns what was done until a failure.
    """
    try:
        yield
    except KeyboardInterrupt:
        echo(f"\nstopped; continue with: {resume_command}")
        run.finish("KILLED")
        raise
    except BaseException:
        echo(f"stopped{so_far()}; continue with: {resume_command}")
        run.finish("FAILED")
        raise
    run.finish("FINISHED")
