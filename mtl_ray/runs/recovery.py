"""Repair a run's folder after the process that wrote it was killed.

Ray Train overwrites its manifest of checkpoints in place, so a full disk or a kill may leave half of it; we keep a copy
of the previous one beside it. A checkpoint that was being written when its worker died is in no manifest.
"""

import json
import time
from typing import Any

import pyarrow.fs as pafs

from mtl_ray.cluster.ray_compat import MANIFEST, checkpoint_metrics, checkpoint_names, latest_reported_metrics
from mtl_ray.errors import InputError
from mtl_ray.models.checkpoint import SCORE
from mtl_ray.storage import Folder

COPY = "checkpoints.json"
"""The copy of Ray Train's manifest in the run's folder."""


def copy_manifest(folder: Folder) -> None:
    """Copy the present manifest. Ray Train deletes no checkpoint that it lists before the next one is written."""
    folder.write_atomic(COPY, folder.read_text(MANIFEST))


def wait_until_idle(folder: Folder, quiet: float = 2.0, most: float = 60.0) -> None:
    """Wait until nothing in a run's folder has changed for `quiet` seconds.

    The workers of a killed driver outlive it for a moment, in which they write checkpoints and the manifest.

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
    except FileNotFoundError:  # a listed file was deleted meanwhile
        return set()
    return {(info.path, info.size, info.mtime_ns) for info in infos}


def restore_manifest(folder: Folder) -> None:
    """Replace an unreadable manifest by its copy; without a copy, delete it so that the run starts over."""
    if _read(folder, MANIFEST) is not None:
        return
    if (copy := _read(folder, COPY)) is not None:
        folder.write_atomic(MANIFEST, json.dumps(copy))
    elif folder.exists(MANIFEST):
        folder.fs.delete_file(f"{folder.path}/{MANIFEST}")


def delete_orphan_checkpoints(folder: Folder) -> None:
    """Delete the checkpoints that the manifest does not list, which may be half written. No worker may be running."""
    manifest = _read(folder, MANIFEST)
    known = checkpoint_names(manifest) if manifest else set()
    for found in folder.fs.get_file_info(pafs.FileSelector(folder.path)):
        if found.base_name.startswith("checkpoint_") and found.base_name not in known and not found.is_file:
            folder.fs.delete_dir(found.path)


def last_metrics(folder: Folder) -> dict[str, Any] | None:
    """Return the metrics reported with the latest checkpoint, or None if there is none."""
    manifest = _read(folder, MANIFEST)
    return latest_reported_metrics(manifest) if manifest else None


def best_checkpoint_name(folder: Folder) -> str | None:
    """Return the name of the checkpoint with the best score, the later one of equals; None if there is none."""
    manifest = _read(folder, MANIFEST) or _read(folder, COPY)
    scores = checkpoint_metrics(manifest) if manifest else {}
    return max(scores, key=lambda name: (scores[name][SCORE], scores[name]["epoch"])) if scores else None


def _read(folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        return json.loads(folder.read_text(name)) if folder.exists(name) else None
    except ValueError:
        return None
