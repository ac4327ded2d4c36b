"""What a user can do something about is found within the errors of Ray: a full disk is told first, with its folder."""

import errno
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from ray.exceptions import OutOfDiskError, RayTaskError
from ray.train import ControllerError, WorkerGroupError

from mtl_ray.cli import main
from mtl_ray.cluster.causes import causes, full_disk
from mtl_ray.errors import InputError
from mtl_ray.storage import Folder

ROOM = "make room there, then continue, or run the command again"
NAMED = f"the disk is full: that of /data/runs, where history.json could not be written; {ROOM}"
UNNAMED = f"the disk is full: that of `training.output`, `data.output` or the temporary folder of a node; {ROOM}"


def full(path: str | None = None) -> OSError:
    """Such an error as pyarrow raises it, here with the name that `Folder` adds."""
    error = OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")
    error.filename = path
    return error


def of_task(error: Exception) -> Exception:
    """The error as the driver gets it from a task of Ray."""
    return RayTaskError("apply", f"Traceback:\n  File ...\nOSError: {error}\n", error).as_instanceof_cause()


def of_text(error: Exception) -> Exception:
    """The error as the driver gets it where its class cannot be sent."""
    return RayTaskError("apply", f"Traceback:\n  File ...\nOSError: {error}\n\nRay's advice", RuntimeError("lost"))


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda error: error,
        lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301
        of_task,
        of_text,
        ControllerError,
        lambda error: WorkerGroupError("2 workers failed", {1: error}),
        lambda error: WorkerGroupError("2 workers failed", {1: of_task(error)}),
    ],
)
def test_a_full_disk_is_found_within_the_errors_of_ray(wrapped):
    assert full_disk(wrapped(full("/data/runs/history.json"))) == NAMED
    assert full_disk(wrapped(full())) == UNNAMED


def test_one_that_ray_itself_meets_is_found_and_other_errors_are_not():
    assert full_disk(OutOfDiskError("spilled")) == UNNAMED
    assert full_disk(OSError(errno.EDQUOT, "Disk quota exceeded", "/data/runs/history.json")) == NAMED
    for error in (OSError(errno.EACCES, "Permission denied", "/data/x"), of_task(ValueError("a disk"))):
        assert full_disk(error) is None


def test_the_errors_within_an_error_are_listed_from_the_outside_in():
    inner = InputError("bad")
    outer = RuntimeError("failed")
    outer.__cause__ = WorkerGroupError("1 worker failed", {0: inner})
    assert causes(outer) == [outer, outer.__cause__, inner]
    inner.__cause__ = outer
    assert len(causes(outer)) == 3, "a circle ends"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_an_error_of_a_full_disk_has_the_name_of_the_file():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        Folder("/dev").write_bytes("full", b"x" * 10)
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        Folder("/dev").write_table("full", pa.table({"a": range(10)}))


def test_the_command_line_tells_a_full_disk_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys):
    def failing(**_) -> None:
        raise ControllerError(of_task(full("/data/runs/history.json")))

    monkeypatch.setattr(main, "app", failing)
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {NAMED}\n"
