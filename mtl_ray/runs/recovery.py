"""Ray Train's note of a run's checkpoints, kept whole through what may end the process that writes it.

Ray Train writes the note over the old one, so a full disk or a kill may leave half of it; a copy of the one before is
beside it. A checkpoint that was being written when its worker died is in no note.
"""

import json
import time
from typing import Any

import pyarrow.fs as pafs

from mtl_ray.errors import InputError
from mtl_ray.storage import Folder

MANIFEST, COPY = "checkpoint_manager_snapshot.json", "checkpoints.json"


def copy_manifest(folder: Folder) -> None:
    """Keep what the note says now; Ray Train deletes no checkpoint of it before the next one is written."""
    folder.write_atomic(COPY, folder.read_text(MANIFEST))


def wait_until_idle(folder: Folder, quiet: float = 2.0, most: float = 60.0) -> None:
    """Wait until nothing has changed in a run's folder for `quiet` seconds.

    The workers of a killed driver outlive it for a moment, in which they write checkpoints and the note.

    Raises:
        InputError: something still changes after `most` seconds.
    """
    known, since, end = _listing(folder), time.monotonic(), time.monotonic() + most
    while (now := time.monotonic()) - since < quiet:
        if now > end:
            raise InputError(f"{folder}: something still writes to this run; stop it before the run is resumed")
        time.sleep(quiet / 4)
        if (found := _listing(folder)) != known:
            known, since = found, time.monotonic()


def _listing(folder: Folder) -> set[tuple[str, int | None, int | None]]:
    try:
        infos = folder.fs.get_file_info(pafs.FileSelector(folder.path, recursive=True))
    except FileNotFoundError:  # what was listed has gone meanwhile
        return set()
    return {(info.path, info.size, info.mtime_ns) for info in infos}


def restore_manifest(folder: Folder) -> None:
    """Put the copy in the place of a note that cannot be read; without a copy the run begins anew."""
    if _read(folder, MANIFEST) is not None:
        return
    if (copy := _read(folder, COPY)) is not None:
        folder.write_atomic(MANIFEST, json.dumps(copy))
    elif folder.exists(MANIFEST):
        folder.fs.delete_file(f"{folder.path}/{MANIFEST}")


def delete_orphan_checkpoints(folder: Folder) -> None:
    """Remove the checkpoints that the manifest does not name, which may be half written; no worker may be running."""
    note = _read(folder, MANIFEST) or {"checkpoint_results": [], "latest_checkpoint_result": None}
    results = [*note["checkpoint_results"], note["latest_checkpoint_result"]]
    known = {result["checkpoint_dir_name"] for result in results if result}
    for found in folder.fs.get_file_info(pafs.FileSelector(folder.path)):
        if found.base_name.startswith("checkpoint_") and found.base_name not in known and not found.is_file:
            folder.fs.delete_dir(found.path)


def last_metrics(folder: Folder) -> dict[str, Any] | None:
    """What was reported with the latest checkpoint."""
    latest = (_read(folder, MANIFEST) or {}).get("latest_checkpoint_result")
    return latest["metrics"] if latest else None


def _read(folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        return json.loads(folder.read_text(name)) if folder.exists(name) else None
    except ValueError:
        return None
