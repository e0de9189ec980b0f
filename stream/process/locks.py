"""Locks that a process holds on a folder until it ends."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from stream.process.folders import make_folder


def acquire_lock(path: Path) -> IO[str]:
    """Lock a folder for this process until the returned file is closed or the process ends.

    BlockingIOError, with the id of the other process, if another process holds the lock. NotADirectoryError if the
    folder cannot be made because a file has its name.
    """
    make_folder(path.parent)
    lock_file = path.open("a+")
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock_file.seek(0)
        message = f"process {lock_file.read(32) or 'unknown'} holds it: stop it, or use another HEADRACE_DATA__FOLDER"
        lock_file.close()
        raise BlockingIOError(errno.EWOULDBLOCK, message, str(path)) from None
    write_holder(lock_file.fileno())
    return lock_file


def wait_for_lock(path: Path) -> IO[str]:
    """Wait until this process has the lock of a file; closing the returned file releases it."""
    make_folder(path.parent)
    lock_file = path.open("a+")
    fcntl.flock(lock_file, fcntl.LOCK_EX)
    return lock_file


def write_holder(lock: int) -> None:
    """Write the id of this process into a lock file; on a full disk, it stays unknown to others."""
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
