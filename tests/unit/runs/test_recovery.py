"""The note of a run's checkpoints survives what may end its writer half way."""

import json
import os
import threading
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from mtl_ray.errors import InputError
from mtl_ray.runs.recovery import (
    COPY,
    MANIFEST,
    copy_manifest,
    delete_orphan_checkpoints,
    last_metrics,
    restore_manifest,
    wait_until_idle,
)
from mtl_ray.storage import LEFT_OVER, Folder, sweep


def note(*names: str) -> str:
    results = [{"checkpoint_dir_name": name, "metrics": {"epoch": number}} for number, name in enumerate(names)]
    return json.dumps({"checkpoint_results": results, "latest_checkpoint_result": results[-1]})


def test_half_a_note_is_replaced_by_the_one_before(tmp_path: Path):
    folder = Folder(str(tmp_path))
    whole = note("checkpoint_1", "checkpoint_2")
    folder.write_text(MANIFEST, whole)
    copy_manifest(folder)
    folder.write_text(MANIFEST, note("checkpoint_2", "checkpoint_3")[:40])
    assert last_metrics(folder) is None
    restore_manifest(folder)
    assert json.loads(folder.read_text(MANIFEST)) == json.loads(whole)
    assert last_metrics(folder) == {"epoch": 1}


def test_a_whole_note_is_left_alone_and_half_of_the_first_one_is_removed(tmp_path: Path):
    folder = Folder(str(tmp_path))
    restore_manifest(folder)
    folder.write_text(MANIFEST, "")
    restore_manifest(folder)
    assert not folder.exists(MANIFEST)
    folder.write_text(COPY, note("checkpoint_1"))
    folder.write_text(MANIFEST, note("checkpoint_2"))
    restore_manifest(folder)
    assert json.loads(folder.read_text(MANIFEST)) == json.loads(note("checkpoint_2"))


def test_checkpoints_that_no_note_names_are_removed(tmp_path: Path):
    folder = Folder(str(tmp_path))
    for name in ("checkpoint_1", "checkpoint_2", "checkpoint_3", "warm_start"):
        (folder / name).write_text("model.safetensors", "")
    folder.write_text(MANIFEST, note("checkpoint_1", "checkpoint_3"))
    delete_orphan_checkpoints(folder)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "checkpoint_1",
        "checkpoint_3",
        "warm_start",
    ]


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path: Path):
    folder = Folder(str(tmp_path))
    old = time.time() - LEFT_OVER - 60
    for name in (".shop-1-aaaa", ".shop-1-bbbb", ".other-2-cccc", "shop-1"):
        (folder / name / "train").write_text("00000-000.parquet", "")
        if "bbbb" not in name:
            os.utime(tmp_path / name / "train" / "00000-000.parquet", (old, old))
            os.utime(tmp_path / name / "train", (old, old))
    for name in (".check-aaaa", ".check-bbbb-node"):
        folder.write_text(name, "")
    os.utime(tmp_path / ".check-aaaa", (old, old))
    sweep(folder, ".shop-1-")
    sweep(folder, ".check-")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".check-bbbb-node",
        ".other-2-cccc",
        ".shop-1-bbbb",
        "shop-1",
    ]


class TakenByAnother:
    """A filesystem on which another process removes all that was listed before this one can."""

    def __init__(self, fs: pafs.FileSystem) -> None:
        self.fs, self.delete_file, self.delete_dir = fs, fs.delete_file, fs.delete_dir

    def get_file_info(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        found = self.fs.get_file_info(selector)
        for info in found:
            (self.fs.delete_file if info.is_file else self.fs.delete_dir)(info.path)
        return found


@pytest.mark.parametrize("name", [".check-aaaa", ".check-bbbb/inside"])
def test_what_another_process_removes_meanwhile_is_passed_over(tmp_path: Path, name: str):
    folder, old = Folder(str(tmp_path)), time.time() - LEFT_OVER - 60
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    os.utime(tmp_path / name, (old, old))
    folder.fs = TakenByAnother(folder.fs)
    sweep(folder, ".check-")
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_resumed_once_nothing_writes_to_it_any_more(tmp_path: Path):
    folder, last, stopped = Folder(str(tmp_path)), [0], threading.Event()

    def write() -> None:
        while not stopped.wait(0.02):
            last[0] += 1
            folder.write_text(f"checkpoint_{last[0]}", "")

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(InputError, match="something still writes to this run"):
        wait_until_idle(folder, quiet=0.4, most=0.5)
    threading.Timer(0.5, stopped.set).start()
    wait_until_idle(folder, quiet=0.4, most=20)
    assert not writer.is_alive()
    wait_until_idle(folder / "not there yet", quiet=0.1)
