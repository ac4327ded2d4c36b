"""Two jobs never write one output at once, and one that was killed does not keep the next from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from mtl_ray.data.sources.files import Log
from mtl_ray.errors import InputError
from mtl_ray.inference import output_lock
from mtl_ray.inference.batch import map_rows
from mtl_ray.inference.output_lock import locked
from mtl_ray.storage import Folder

HOLD = """
import sys, time
from mtl_ray.inference.output_lock import locked
from mtl_ray.storage import Folder
with locked(Folder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["locks", "marks"])
def either_way(request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock a file; or write a mark, as on an object store."""
    if request.param == "marks":
        monkeypatch.setattr(output_lock, "_lock_file", lambda _: None)


@pytest.mark.usefixtures("either_way")
def test_a_second_job_is_told_who_writes(tmp_path: Path):
    output = Folder(str(tmp_path / "deep" / "scores"))
    with locked(output):
        with pytest.raises(InputError) as caught, locked(output):
            pass
        assert f"scores: process {os.getpid()} on " in str(caught.value)
        assert "is writing there; wait until it has ended" in str(caught.value)
        with locked(Folder(str(tmp_path / "deep" / "others"))):
            pass
    with locked(output):
        pass
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.usefixtures("either_way")
def test_after_an_error_the_output_is_free(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), locked(Folder(str(tmp_path / "scores"))):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["locks", "marks"])
def test_a_killed_job_keeps_nobody_away(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    output = Folder(str(tmp_path / "scores"))
    with subprocess.Popen([sys.executable, "-c", HOLD, output.location], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        if kind == "marks":
            monkeypatch.setattr(output_lock, "_lock_file", lambda _: None)
        with pytest.raises(InputError, match=f"process {holder.pid} on "), locked(output):
            pass
        holder.kill()
    with locked(output):
        pass


def test_the_mark_of_another_machine_has_to_be_deleted_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(output_lock, "_lock_file", lambda _: None)
    mark = {"host": "elsewhere", "process": 1, "since": "today", "token": ""}
    (tmp_path / "scores.lock").write_text(json.dumps(mark))
    output = Folder(str(tmp_path / "scores"))
    with (
        pytest.raises(InputError, match=r"process 1 on elsewhere since today .* delete .*scores\.lock"),
        locked(output),
    ):
        pass
    pafs.LocalFileSystem().delete_file(str(tmp_path / "scores.lock"))
    with locked(output):
        pass


def test_a_job_over_rows_holds_the_lock_of_its_output(tmp_path: Path):
    output, log = str(tmp_path / "scores"), Log([], (), 0)
    with locked(Folder(output)), pytest.raises(InputError, match="is writing there"):
        map_rows("rows.csv", log, output, lambda: None, tmp_path, (), {}, 0)  # pyright: ignore[reportArgumentType]
