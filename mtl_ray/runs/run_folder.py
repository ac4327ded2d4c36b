"""What a run leaves in its folder for those that resume it or tell of it."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mtl_ray.config import Experiment
from mtl_ray.credentials import without_credentials
from mtl_ray.errors import InputError
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run

RUN_FILE, HISTORY, EVALUATION = "run.json", "history.json", "evaluation.json"


def new_name(experiment: Experiment, kind: str = "") -> str:
    """A name that no other run has: the experiment's, what the run is, the time, and four digits by chance."""
    return f"{experiment.name}{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def read_history(folder: Folder) -> dict[int, dict[str, float]]:
    """Metrics of the finished epochs of a run."""
    history = folder.read_json(HISTORY) if folder.exists(HISTORY) else {}
    return {int(epoch): metrics for epoch, metrics in history.items()}


def write_note(command: str, experiment: Experiment, folder: Folder, run: Run, dataset: str | None = None) -> None:
    """Note in the run's folder what a resumed run must find again."""
    note = {
        "command": command,
        "experiment": experiment.model_dump(mode="json"),
        "dataset": dataset,
        "tracking_uri": without_credentials(run.uri),
        "run_id": run.run_id,
    }
    folder.create().write_atomic(RUN_FILE, json.dumps(note, indent=2) + "\n")


def read_note(command: str, experiment: Experiment, folder: Folder) -> dict[str, Any]:
    """What `write_note` wrote.

    Raises:
        InputError: the folder is no run of this command, or one of another experiment.
    """
    parent, name = folder.path.rpartition("/")[0], folder.name
    if not folder.exists(RUN_FILE):
        raise InputError(f"--resume {name}: no such run under {parent}")
    note = folder.read_json(RUN_FILE)
    if note["command"] != command:
        raise InputError(f"--resume {name}: expected a run of `{command}`; it is one of `{note['command']}`")
    mine = json.loads(json.dumps(experiment.model_dump(mode="json")))
    changed = [section for section in mine if mine[section] != note["experiment"].get(section)]
    if changed:
        raise InputError(
            f"--resume: the experiment differs from that of the run in {', '.join(changed)}; "
            "resume with the same file and --set values, or start a new run without --resume"
        )
    return note


@contextmanager
def finish_on_exit(
    run: Run, echo: Callable[[str], None], resume_command: str, so_far: Callable[[], str] = str
) -> Iterator[None]:
    """End the run in MLflow by how the block ends: FINISHED, KILLED or FAILED.

    Args:
        run: that of the block.
        report: is told, unless all went well, how to continue.
        resume_command: the command that continues.
        so_far: what was done until a failure.
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
