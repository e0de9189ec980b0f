"""The one door to SQLite: a file that several processes read and write at once, and that survives kill -9."""

import errno
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Connection = sqlite3.Connection
Cursor = sqlite3.Cursor
_BUSY_TIMEOUT = 30.0  # seconds that a writer waits for the others
_BACK_OFF = 0.0005  # far below SQLite's own steps, which reach 100 ms and starve whoever lost twice
_CHECKPOINT_BYTES = 8 << 20  # the write-ahead log is copied into the file each time it has grown by this much
_MAX_WAL_BYTES = 64 << 20  # beyond this, readers have kept it from starting over: wait for them once
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class NoSuchDatabase(Exception):
    """The file has no tables yet, and none were asked for."""


class SQLiteDatabase:
    """One database file in WAL mode: one connection to write, one to read, each with its lock.

    Open it after a fork, never before. `schema` creates the tables when the file is new, in one transaction;
    a file of another version is refused.
    """

    def __init__(self, path: Path, schema: Sequence[str], version: int, page_size: int) -> None:
        self.path = path
        if not schema and not path.exists():
            raise NoSuchDatabase(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._wal = path.with_name(path.name + "-wal")
        self._next_truncate_at = 0.0
        self._lock = threading.Lock()
        self._writer = _connect(path, busy_timeout=0.0)
        try:
            with translate_errors(path):
                self._prepare(schema, version, page_size)
            self.set_durable(True)
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
                raise OSError(errno.ENOTSUP, "the file system cannot share a SQLite file: use a local disk", self.path)
            file_version = self._create(schema, version)
        if file_version != version:
            raise ValueError(
                f"{self.path} has schema version {file_version}, this code knows {version}: "
                "run the Headrace that wrote it, or choose another folder"
            )
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // page_size}")

    def _create(self, schema: Sequence[str], version: int) -> int:
        with self._transaction():
            (file_version,) = self._writer.execute("PRAGMA user_version").fetchone()
            if file_version:  # another process was faster
                return int(file_version)
            for statement in schema:
                self._writer.execute(statement)
            self._writer.execute(f"PRAGMA user_version = {version}")
        return version

    def set_durable(self, durable: bool) -> None:
        """Whether a commit waits for the disk; without, a power cut (never a kill) may take the last ones."""
        self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")

    def open_reader(self) -> "SQLiteReader":
        return SQLiteReader(self.path)

    @contextmanager
    def write_transaction(self) -> Iterator[Connection]:
        """A transaction that excludes other writers; committed at the end of the block, undone if it raises."""
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
        """Run a statement again while others hold the file; its first value, if it has one."""
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
        """Empty the write-ahead log. Readers that never pause keep the ordinary checkpoint from doing it."""
        if self._wal.stat().st_size <= _MAX_WAL_BYTES or time.monotonic() < self._next_truncate_at:
            return
        self._writer.execute("PRAGMA busy_timeout = 100")
        self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._writer.execute("PRAGMA busy_timeout = 0")
        self._next_truncate_at = time.monotonic() + 1.0  # a reader that is stuck must not slow every commit down

    def close(self) -> None:
        self.reader.close()
        with self._lock:
            self._writer.close()


class SQLiteReader:
    """A connection that only reads; safe to use from several threads, which take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = _connect(path, _BUSY_TIMEOUT)
        self._connection.execute("PRAGMA query_only = 1")

    @contextmanager
    def open_cursor(self) -> Iterator[Cursor]:
        """A cursor that others wait for. Keep it short: an open cursor keeps the write-ahead log from starting over."""
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
        """A number that differs from the last one if another connection has committed since."""
        with self._lock, translate_errors(self._path):
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _connect(path: Path, busy_timeout: float) -> Connection:
    with translate_errors(path):
        return sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the disk into an OSError that names the file and how to mend it."""
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


_CORRUPTION = (errno.EIO, "the file is damaged; stop all processes, restore it from a copy or move it away")
_NO_PERMISSION = (errno.EACCES, "the file or its folder cannot be written; give this user the right, or choose another")
_ERROR_FIXES = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "free space on this disk; what was acknowledged is safe"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "the disk refused; look at its health, quota and free space"),
    sqlite3.SQLITE_CORRUPT: _CORRUPTION,
    sqlite3.SQLITE_NOTADB: _CORRUPTION,
    sqlite3.SQLITE_READONLY: _NO_PERMISSION,
    sqlite3.SQLITE_CANTOPEN: _NO_PERMISSION,
    sqlite3.SQLITE_PERM: _NO_PERMISSION,
    sqlite3.SQLITE_BUSY: (errno.ETIMEDOUT, f"another process has held it for {_BUSY_TIMEOUT:.0f} s; find and stop it"),
}
