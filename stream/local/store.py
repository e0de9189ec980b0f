"""The embedded user store: a log of value blocks in one SQLite file, with an index to it in each process that opens it.

A table with a row per user would write a whole page, twice, for each user that changed: measured, 22 thousand users
a second. Here blocks are written one after the other, and the oldest are cleaned a few at a time as new ones come, so
that about half of the file is alive (Rosenblum and Ousterhout 1992, "The design of a log-structured file system").
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from stream.ids import NO_KEY
from stream.local.sqlite import Connection, Cursor, SqliteFile
from stream.local.store_index import DELETED, StoreIndex, begins
from stream.logs import checked_name
from stream.stores import Mark, checked_keys, checked_values, overtaken

SCHEMA_VERSION = 1
_TABLES = (  # id: number of the block's first record, counted from the first ever written
    "CREATE TABLE blocks (id INTEGER PRIMARY KEY, keys BLOB NOT NULL, sizes BLOB NOT NULL, body BLOB NOT NULL)",
)
_MARKS = "CREATE TABLE IF NOT EXISTS marks (partition INTEGER PRIMARY KEY, mark TEXT NOT NULL)"
_PAGE_SIZE = 16384
_BLOCK_RECORDS = 1000
_DEAD_ALLOWED = 10_000  # records beyond twice the live ones before cleaning starts
_CLEANED_AT_ONCE = 64  # blocks
_SCANNED_AT_ONCE = 5_000


def open_url(url: str, prefix: str) -> "LocalStore":
    folder = url.removeprefix("local:")
    if not folder:
        raise ValueError(f"store url must name a folder, as in local:data/store, got {url!r}")
    return LocalStore(Path(folder).expanduser(), prefix)


class LocalStore:
    """See `UserStore`. Each process that opens it keeps about 50 bytes per user in memory."""

    def __init__(self, folder: Path, prefix: str) -> None:
        path = folder / f"{checked_name('prefix', prefix + 'users')}.store.db"
        self._file = SqliteFile(path, _TABLES, SCHEMA_VERSION, _PAGE_SIZE)
        with self._file.writing() as db:
            db.execute(_MARKS)  # a file of before has none
        self._index = StoreIndex()
        self._change = -1
        with self._current():
            pass  # read the index now, not at the first question

    def get(self, key: int) -> bytes | None:
        with self._current() as cursor:
            entry = self._index.find_one(key)
            if entry is None:
                return None
            with cursor.connection.blobopen("blocks", "body", entry.block, readonly=True) as blob:
                blob.seek(entry.begin)
                return blob.read(entry.size)

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        values: list[bytes | None] = [None] * checked_keys(keys).size
        with self._current() as cursor:
            found = sorted(self._index.find(keys), key=attrgetter("block"))
            for block, entries in groupby(found, key=attrgetter("block")):
                with cursor.connection.blobopen("blocks", "body", block, readonly=True) as blob:
                    for entry in entries:
                        blob.seek(entry.begin)
                        values[entry.asked] = blob.read(entry.size)
        return values

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], marks: Sequence[Mark] = ()) -> None:
        checked_values(keys, values)
        self._write(keys, np.fromiter(map(len, values), np.int32, len(values)), b"".join(values), marks)

    def mark(self, partition: int) -> str:
        found = self._file.reader.rows("SELECT mark FROM marks WHERE partition = ?", (partition,))
        return str(found[0][0]) if found else ""

    def claim(self, partition: int) -> str:
        return self.mark(partition)

    def trouble(self) -> str:
        return ""

    def delete_many(self, keys: np.ndarray) -> None:
        known = keys[checked_keys(keys) != NO_KEY]
        self._write(known, np.full(known.size, DELETED, np.int32), b"")

    def scan(self) -> Iterator[tuple[int, bytes]]:
        with self._current():
            keys = np.sort(self._index.keys())
        for start in range(0, keys.size, _SCANNED_AT_ONCE):
            some = keys[start : start + _SCANNED_AT_ONCE]
            for key, value in zip(some.tolist(), self.get_many(some), strict=True):
                if value is not None:
                    yield key, value

    def count(self) -> int:
        with self._current():
            return self._index.live

    def close(self) -> None:
        self._file.close()

    def _write(self, keys: np.ndarray, sizes: np.ndarray, body: bytes, marks: Sequence[Mark] = ()) -> None:
        if keys.size == 0 and not marks:
            return
        with self._file.writing() as db:
            for mark in marks:
                self._move(db, mark)
            if keys.size == 0:
                return
            with self._current() as cursor:  # the last word: nobody else writes now
                end = self._index.end
                if end - self._index.oldest + keys.size > 2 * self._index.live + _DEAD_ALLOWED:
                    end = self._clean(cursor, db, keys.size)
            _insert(db, end, keys, sizes, body)

    def _move(self, db: Connection, mark: Mark) -> None:
        found = db.execute("SELECT mark FROM marks WHERE partition = ?", (mark.partition,)).fetchone()
        if (found[0] if found else "") != mark.before:
            raise overtaken(mark, found[0] if found else "", str(self._file.path))
        db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (mark.partition, mark.after))

    def _clean(self, cursor: Cursor, db: Connection, wanted: int) -> int:
        """Move what is alive in the oldest blocks to the end, until `wanted` dead records are gone; the new end.

        A deletion among the oldest has nothing left to hide, so it goes as well.
        """
        end, scanned, moved, last = self._index.end, 0, 0, -1
        rows = cursor.execute("SELECT id, keys, sizes, body FROM blocks ORDER BY id LIMIT ?", (_CLEANED_AT_ONCE,))
        for block, raw_keys, raw_sizes, body in rows:
            keys, sizes = np.frombuffer(raw_keys, np.uint64), np.frombuffer(raw_sizes, np.int32)
            alive = self._index.alive(block, keys, sizes)
            begin = begins(sizes)[alive].tolist()
            kept = b"".join(body[at : at + size] for at, size in zip(begin, sizes[alive].tolist(), strict=True))
            _insert(db, end + moved, keys[alive], sizes[alive], kept)
            scanned, moved, last = scanned + keys.size, moved + len(begin), block
            if scanned - moved >= wanted or scanned >= 4 * wanted + 256:
                break
        db.execute("DELETE FROM blocks WHERE id <= ?", (last,))
        return end + moved

    @contextmanager
    def _current(self) -> Iterator[Cursor]:
        """One moment of the file, with the index brought up to it."""
        with self._file.reader.reading() as cursor:
            cursor.execute("BEGIN")
            try:
                (change,) = cursor.execute("PRAGMA data_version").fetchone()
                if change != self._change:
                    self._follow(cursor)
                    self._change = change
                yield cursor
            finally:
                cursor.execute("ROLLBACK")

    def _follow(self, cursor: Cursor) -> None:
        (oldest,) = cursor.execute("SELECT coalesce(min(id), 0) FROM blocks").fetchone()
        self._index.forget_below(oldest)
        cursor.execute("SELECT id, keys, sizes FROM blocks WHERE id >= ? ORDER BY id", (self._index.end,))
        while rows := cursor.fetchmany(256):
            self._index.add(*zip(*rows, strict=True))


def _insert(db: Connection, end: int, keys: np.ndarray, sizes: np.ndarray, body: bytes) -> None:
    begin = [*begins(sizes)[::_BLOCK_RECORDS].tolist(), len(body)]
    for block, start in enumerate(range(0, keys.size, _BLOCK_RECORDS)):
        some = slice(start, start + _BLOCK_RECORDS)
        row = (end + start, keys[some].tobytes(), sizes[some].tobytes(), body[begin[block] : begin[block + 1]])
        db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
