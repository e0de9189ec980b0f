"""Embedded user store: a log of value blocks in SQLite, with an index in each process.

A table with one row per user would write a whole page, twice, for each changed user: 22,000 users per second
(measured). This store appends blocks and cleans the oldest ones a few at a time, so that about half of the file is
live data (Rosenblum and Ousterhout 1992, "The design and implementation of a log-structured file system").
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from stream.ids import NO_KEY
from stream.local.sqlite import Connection, Cursor, SQLiteDatabase
from stream.local.store_index import DELETED, StoreIndex, begin_offsets
from stream.logs import validate_name
from stream.stores import StoreWatermark, ownership_lost_error, validate_keys, validate_values

SCHEMA_VERSION = 1
_TABLES = (  # id: number of the block's first record, counted from the first ever written
    "CREATE TABLE blocks (id INTEGER PRIMARY KEY, keys BLOB NOT NULL, sizes BLOB NOT NULL, body BLOB NOT NULL)",
)
_WATERMARKS_TABLE = "CREATE TABLE IF NOT EXISTS watermarks (partition INTEGER PRIMARY KEY, watermark TEXT NOT NULL)"
_PAGE_SIZE = 16384
_BLOCK_RECORDS = 1000
_MAX_DEAD_RECORDS = 10_000  # records above twice the live ones before cleaning starts
_CLEAN_BATCH_BLOCKS = 64
_SCAN_BATCH_KEYS = 5_000


def open_url(url: str, prefix: str) -> "LocalStore":
    folder = url.removeprefix("local:")
    if not folder:
        raise ValueError(f"store URL must name a folder, as in local:data/store, got {url!r}")
    return LocalStore(Path(folder).expanduser(), prefix)


class LocalStore:
    """`UserStore` in a folder; each process that opens it needs about 50 bytes per user."""

    def __init__(self, folder: Path, prefix: str) -> None:
        path = folder / f"{validate_name('prefix', prefix + 'users')}.store.db"
        self._file = SQLiteDatabase(path, _TABLES, SCHEMA_VERSION, _PAGE_SIZE)
        with self._file.write_transaction() as db:
            db.execute(_WATERMARKS_TABLE)
        self._index = StoreIndex()
        self._data_version = -1
        with self._snapshot():
            pass  # read the index now, not at the first request

    def get(self, key: int) -> bytes | None:
        with self._snapshot() as cursor:
            entry = self._index.lookup_one(key)
            if entry is None:
                return None
            with cursor.connection.blobopen("blocks", "body", entry.block, readonly=True) as blob:
                blob.seek(entry.begin)
                return blob.read(entry.size)

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        values: list[bytes | None] = [None] * validate_keys(keys).size
        with self._snapshot() as cursor:
            located = sorted(self._index.lookup(keys), key=attrgetter("block"))
            for block, entries in groupby(located, key=attrgetter("block")):
                with cursor.connection.blobopen("blocks", "body", block, readonly=True) as blob:
                    for entry in entries:
                        blob.seek(entry.begin)
                        values[entry.position] = blob.read(entry.size)
        return values

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        validate_values(keys, values)
        self._write(keys, np.fromiter(map(len, values), np.int32, len(values)), b"".join(values), watermarks)

    def watermark(self, partition: int) -> str:
        rows = self._file.reader.fetch_all("SELECT watermark FROM watermarks WHERE partition = ?", (partition,))
        return str(rows[0][0]) if rows else ""

    def claim(self, partition: int) -> str:
        return self.watermark(partition)

    def health_problem(self) -> str:
        return ""

    def unchecked_health(self) -> str:
        return ""

    def delete_many(self, keys: np.ndarray) -> None:
        valid_keys = keys[validate_keys(keys) != NO_KEY]
        self._write(valid_keys, np.full(valid_keys.size, DELETED, np.int32), b"")

    def scan(self) -> Iterator[tuple[int, bytes]]:
        with self._snapshot():
            keys = np.sort(self._index.keys())
        for start in range(0, keys.size, _SCAN_BATCH_KEYS):
            chunk = keys[start : start + _SCAN_BATCH_KEYS]
            for key, value in zip(chunk.tolist(), self.get_many(chunk), strict=True):
                if value is not None:
                    yield key, value

    def count(self) -> int:
        with self._snapshot():
            return self._index.live_count

    def close(self) -> None:
        self._file.close()

    def _write(
        self, keys: np.ndarray, sizes: np.ndarray, body: bytes, watermarks: Sequence[StoreWatermark] = ()
    ) -> None:
        if keys.size == 0 and not watermarks:
            return
        with self._file.write_transaction() as db:
            for watermark in watermarks:
                self._advance_watermark(db, watermark)
            if keys.size == 0:
                return
            with self._snapshot() as cursor:  # current: the transaction excludes other writers
                end = self._index.end
                if end - self._index.oldest + keys.size > 2 * self._index.live_count + _MAX_DEAD_RECORDS:
                    end = self._clean(cursor, db, keys.size)
            _insert(db, end, keys, sizes, body)

    def _advance_watermark(self, db: Connection, watermark: StoreWatermark) -> None:
        row = db.execute("SELECT watermark FROM watermarks WHERE partition = ?", (watermark.partition,)).fetchone()
        if (row[0] if row else "") != watermark.before:
            raise ownership_lost_error(watermark, row[0] if row else "", str(self._file.path))
        db.execute("INSERT OR REPLACE INTO watermarks VALUES (?, ?)", (watermark.partition, watermark.after))

    def _clean(self, cursor: Cursor, db: Connection, n_needed: int) -> int:
        """Move live records of the oldest blocks to the end; returns the new end.

        It stops when `n_needed` dead records are gone. A deletion in the oldest blocks is dropped, because no older
        value of its key is left.
        """
        end, n_scanned, n_moved, last = self._index.end, 0, 0, -1
        rows = cursor.execute("SELECT id, keys, sizes, body FROM blocks ORDER BY id LIMIT ?", (_CLEAN_BATCH_BLOCKS,))
        for block, raw_keys, raw_sizes, body in rows:
            keys, sizes = np.frombuffer(raw_keys, np.uint64), np.frombuffer(raw_sizes, np.int32)
            live = self._index.live_mask(block, keys, sizes)
            begin = begin_offsets(sizes)[live].tolist()
            live_body = b"".join(
                body[start : start + size] for start, size in zip(begin, sizes[live].tolist(), strict=True)
            )
            _insert(db, end + n_moved, keys[live], sizes[live], live_body)
            n_scanned, n_moved, last = n_scanned + keys.size, n_moved + len(begin), block
            if n_scanned - n_moved >= n_needed or n_scanned >= 4 * n_needed + 256:
                break
        db.execute("DELETE FROM blocks WHERE id <= ?", (last,))
        return end + n_moved

    @contextmanager
    def _snapshot(self) -> Iterator[Cursor]:
        """Open a consistent view of the file, and update the index to it."""
        with self._file.reader.open_cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                (version,) = cursor.execute("PRAGMA data_version").fetchone()
                if version != self._data_version:
                    self._refresh_index(cursor)
                    self._data_version = version
                yield cursor
            finally:
                cursor.execute("ROLLBACK")

    def _refresh_index(self, cursor: Cursor) -> None:
        (oldest,) = cursor.execute("SELECT coalesce(min(id), 0) FROM blocks").fetchone()
        self._index.forget_below(oldest)
        cursor.execute("SELECT id, keys, sizes FROM blocks WHERE id >= ? ORDER BY id", (self._index.end,))
        while rows := cursor.fetchmany(256):
            self._index.add(*zip(*rows, strict=True))


def _insert(db: Connection, end: int, keys: np.ndarray, sizes: np.ndarray, body: bytes) -> None:
    begin = [*begin_offsets(sizes)[::_BLOCK_RECORDS].tolist(), len(body)]
    for block, start in enumerate(range(0, keys.size, _BLOCK_RECORDS)):
        chunk = slice(start, start + _BLOCK_RECORDS)
        row = (end + start, keys[chunk].tobytes(), sizes[chunk].tobytes(), body[begin[block] : begin[block + 1]])
        db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
