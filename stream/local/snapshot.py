"""Copies of several SQLite files as of one moment, while other processes write to them."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stream.local.sqlite import translate_errors

T = TypeVar("T")
_LOCK_TIMEOUT_S = 30.0
_BACK_OFF_S = 0.0005


@dataclass(frozen=True, slots=True)
class PinnedFiles:
    """Read transactions of several files that began at the same moment."""

    readers: dict[Path, sqlite3.Connection]

    def copy(self, path: Path, target: Path) -> None:
        """Write the pinned content of a file to a new file; it is durable when this returns."""
        with translate_errors(path), closing(sqlite3.connect(target)) as copy:
            self.readers[path].backup(copy)
        with target.open("rb") as file:
            os.fsync(file.fileno())

    def fetch_all(self, path: Path, statement: str) -> list[Any]:
        with translate_errors(path):
            return self.readers[path].execute(statement).fetchall()


@contextmanager
def pin_files(paths: Sequence[Path], inspect: Callable[[], T]) -> Iterator[tuple[PinnedFiles, T]]:
    """Pin the content of all files at one moment, and call `inspect` at that moment.

    1. lock every file for writing: no process can commit anywhere
    2. begin a read transaction in each file, and inspect what else belongs to this moment
    3. release the locks, after some milliseconds; the read transactions keep the old content while it is copied

    So the copies are what a power failure at that moment would leave.
    """
    with ExitStack() as stack:
        with ExitStack() as locks:
            for path in paths:
                _lock(locks, path)
            readers = {path: _begin(stack, path) for path in paths}
            inspection = inspect()
        yield PinnedFiles(readers), inspection


def _lock(locks: ExitStack, path: Path) -> None:
    with translate_errors(path):
        connection = _connect(path)
        locks.callback(connection.close)  # rolls back
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_BACK_OFF_S)


def _begin(stack: ExitStack, path: Path) -> sqlite3.Connection:
    with translate_errors(path):
        connection = _connect(path)
        stack.callback(connection.close)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # a transaction begins with its first read
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
