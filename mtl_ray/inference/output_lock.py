"""A lock on an output folder, which names its holder: two jobs on one output would rename each other's files."""

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

from mtl_ray.errors import InputError
from mtl_ray.file_lock import HeldError, lock_file
from mtl_ray.storage import Folder


@contextmanager
def locked(output: Folder) -> Iterator[None]:
    """Hold the lock of a folder, the file OUTPUT.lock beside it, within the block.

    On a local file system the lock ends with its process, however that ends. On an object store it is a mark: of a
    process of this machine that has gone it is taken over, and any other has to be deleted by hand.

    Raises:
        InputError: another process has it.
    """
    lock = output.suffixed(".lock")
    release = _lock_file(Path(lock.path)) if isinstance(lock.fs, pafs.LocalFileSystem) else None
    release = release or _mark(lock)
    try:
        yield
    finally:
        release()


def _holder() -> dict[str, str | int]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": uuid.uuid4().hex,
    }


def _refuse(place: str, text: str, what_to_do: str) -> InputError:
    try:
        holder = json.loads(text)
        named = f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError):
        named = "another process"
    return InputError(f"--output {place.removesuffix('.lock')}: {named} is writing there; {what_to_do}")


def _lock_file(path: Path) -> Callable[[], None] | None:
    try:
        return lock_file(path, json.dumps(_holder()))
    except HeldError as error:
        raise _refuse(str(path), str(error), "wait until it has ended, or name another folder") from None


def _mark(lock: Folder) -> Callable[[], None]:
    """Write a mark where there are no locks; return what deletes it."""
    place = Folder(lock.place.rpartition("/")[0] + lock.options)
    own = json.dumps(_holder())

    def found() -> str:
        try:
            return place.read_text(lock.name)
        except FileNotFoundError:
            return ""

    def refuse_others() -> None:
        if (text := found()) and text != own and not _has_gone(text):
            raise _refuse(lock.place, text, f"wait until it has ended; if it is gone, delete {lock}")

    refuse_others()
    place.write_text(lock.name, own)
    refuse_others()
    return lambda: place.fs.delete_file(f"{place.path}/{lock.name}")


def _has_gone(text: str) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    try:
        holder = json.loads(text)
        if holder["host"] != socket.gethostname():
            return False
        os.kill(holder["process"], 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, PermissionError):
        return False
    return False
