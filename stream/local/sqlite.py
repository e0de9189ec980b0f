"""SQLite files that several processes read and write concurrently, and that survive kill -9."""

import errno
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream.process.folders import make_folder

Connection = sqlite3.Connection
Cursor = sqlite3.Cursor
_BUSY_TIMEOUT = 30.0  # seconds that a writer waits for other writers
_BACK_OFF = 0.0005  # seconds; SQLite's own steps reach 100 ms and starve a writer that lost twice
_CHECKPOINT_BYTES = 8 << 20  # growth of the write-ahead log after which it is copied into the file
_MAX_WAL_BYTES = 64 << 20  # above this, readers have prevented its reset: wait for them once
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class NoSuchDatabase(Exception):
    """The file has no tables yet, and the caller gave no schema."""


class SQLiteDatabase:
    """Database file in WAL mode, with a lock for its writer and for its reader.

    Open it after a fork, never before. `schema` creates the tables of a new file, in one transaction. ValueError for a
    file of another version.
    """

    def __init__(self, path: Path, schema: Sequence[str], version: int, page_size: int) -> None:
        self.path = path
        if not schema and not path.exists():
            raise NoSuchDatabase(path)
        make_folder(path.parent)
        self._wal = path.with_name(path.name + "-wal")
        self._next_truncate_at = 0.0
        self._lock = threading.Lock()
        self._writer = _connect(path, busy_timeout=0.0)
        try:
            with translate_errors(path):
                self._prepare(schema, version, page_size)
            self.set_durable(True)
            self._inode = path.stat().st_ino
            self.reader = self.open_reader()
        except BaseException:
            self._writer.close()
            raise

    def _prepare(self, schema: Sequence[str], version: int, page_size: int) -> None:
        self._writer.execute(f"PRAGMA page_size = {page_size}")
        file_version = self._retry_while_busy("PRAGMA user_version")
        if file_version == 0 and not schema:
            raise NoSuchDatabase(self.path)
        if file_version == 0:
            mode = self._retry_while_busy("PRAGMA journal_mode = WAL")
            if mode != "wal":
                raise OSError(errno.ENOTSUP, "the file system lacks SQLite's WAL mode: use a local disk", self.path)
            file_version = self._create(schema, version)
        if file_version != version:
            raise ValueError(
                f"{self.path} has schema version {file_version}, expected {version}: "
                "run the Headrace version that wrote it, or choose another folder"
            )
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // page_size}")

    def _create(self, schema: Sequence[str], version: int) -> int:
        with self._transaction():
            (file_version,) = self._writer.execute("PRAGMA user_version").fetchone()
            if file_version:  # another process has created it
                return int(file_version)
            for statement in schema:
                self._writer.execute(statement)
            self._writer.execute(f"PRAGMA user_version = {version}")
        return version

    def set_durable(self, durable: bool) -> None:
        """Make commits wait for the disk, or not.

        Without it, a power failure can lose the last commits; a kill cannot.
        """
        self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")

    def open_reader(self) -> "SQLiteReader":
        return SQLiteReader(self.path)

    @contextmanager
    def write_transaction(self) -> Iterator[Connection]:
        """Run a transaction that excludes other writers; an error rolls it back."""
        _check_inode(self.path, self._inode)
        with self._lock, translate_errors(self.path):
            with self._transaction():
                yield self._writer
            self._truncate_wal_if_large()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._retry_while_busy("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def _retry_while_busy(self, statement: str) -> Any:
        """Run a statement, with retries while the file is locked; returns its first value, if any."""
        deadline = time.monotonic() + _BUSY_TIMEOUT
        while True:
            try:
                row = self._writer.execute(statement).fetchone()
                return None if row is None else row[0]
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(_BACK_OFF)

    def _truncate_wal_if_large(self) -> None:
        """Empty a large write-ahead log.

        Readers that never pause prevent the regular checkpoint from doing it.
        """
        if self._wal.stat().st_size <= _MAX_WAL_BYTES or time.monotonic() < self._next_truncate_at:
            return
        self._writer.execute("PRAGMA busy_timeout = 100")
        self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._writer.execute("PRAGMA busy_timeout = 0")
        self._next_truncate_at = time.monotonic() + 1.0  # a stuck reader must not slow every commit

    def close(self) -> None:
        self.reader.close()
        with self._lock:
            self._writer.close()


class SQLiteReader:
    """Read-only connection, safe for several threads, which take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = _connect(path, _BUSY_TIMEOUT)
        self._connection.execute("PRAGMA query_only = 1")
        self._inode = path.stat().st_ino

    @contextmanager
    def open_cursor(self) -> Iterator[Cursor]:
        """Open a cursor exclusively.

        Close it soon: an open cursor prevents the reset of the write-ahead log. OSError if the file was replaced.
        """
        _check_inode(self._path, self._inode)
        with self._lock, translate_errors(self._path):
            cursor = self._connection.cursor()
            try:
                yield cursor
            finally:
                cursor.close()

    def fetch_all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self.open_cursor() as cursor:
            return cursor.execute(statement, values).fetchall()

    def data_version(self) -> int:
        """Number that changes when another connection commits."""
        _check_inode(self._path, self._inode)
        with self._lock, translate_errors(self._path):
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _check_inode(path: Path, inode: int) -> None:
    """Raise an OSError if a file was moved, deleted or replaced while it is open.

    SQLite would continue with the old file, which no other process sees.
    """
    try:
        is_same = path.stat().st_ino == inode
    except FileNotFoundError:
        is_same = False
    if not is_same:
        message = "the file was moved, deleted or replaced while it is in use; restore it, then restart all processes"
        raise OSError(errno.ESTALE, message, str(path))


def _connect(path: Path, busy_timeout: float) -> Connection:
    with translate_errors(path):
        return sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate an error of SQLite into an OSError that names the file and the fix."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        entry = _ERROR_FIXES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if entry is None:
            raise
        error_number, fix = entry
        raise OSError(error_number, f"{error}: {fix}", str(path)) from error


def corruption_error(path: Path, detail: object) -> OSError:
    error_number, fix = _CORRUPTION
    return OSError(error_number, f"{detail}: {fix}", str(path))


_CORRUPTION = (errno.EIO, "the file is damaged; stop all processes, then restore it from a copy or move it away")
_NO_PERMISSION = (
    errno.EACCES,
    "the file or its folder is not writable; grant access, or choose another folder",
)
_ERROR_FIXES = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "free space on this disk; acknowledged writes are safe"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "the disk reports an error; check its health, quota and free space"),
    sqlite3.SQLITE_CORRUPT: _CORRUPTION,
    sqlite3.SQLITE_NOTADB: _CORRUPTION,
    sqlite3.SQLITE_READONLY: _NO_PERMISSION,
    sqlite3.SQLITE_CANTOPEN: _NO_PERMISSION,
    sqlite3.SQLITE_PERM: _NO_PERMISSION,
    sqlite3.SQLITE_BUSY: (
        errno.ETIMEDOUT,
        f"another process has locked it for {_BUSY_TIMEOUT:.0f} s; stop that process",
    ),
}
