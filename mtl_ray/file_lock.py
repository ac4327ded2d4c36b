"""Locks on local files, which end with the process that holds them, however it ends."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system that has no locks."""


class HeldError(Exception):
    """Another process has the lock; the message is what that process wrote into the file."""


def lock_file(path: Path, text: str = "", *, wait: bool = False) -> Callable[[], None] | None:
    """Lock a file, which is made for that; return what releases and deletes it, or None if there are no locks.

    Args:
        path: the file.
        text: what is written into it, for others.
        wait: whether to wait for another holder.

    Raises:
        HeldError: another process, or this one, has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            found = file.read()
            file.close()
            if error.errno in NO_LOCKS:
                return None
            raise HeldError(found) from None
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # its holder has just deleted it
    file.truncate(0)
    file.write(text)
    file.flush()

    def release() -> None:
        path.unlink(missing_ok=True)
        file.close()

    return release
