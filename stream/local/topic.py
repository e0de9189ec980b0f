"""Topic in one SQLite file: blocks of records, numbered within their partition."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path

import msgspec

from stream.clock import next_append_time
from stream.local.sqlite import SQLiteDatabase, SQLiteReader, corruption_error
from stream.logs import Record, Records

SCHEMA_VERSION = 1
_PAGE_SIZE = 16384
_BLOCK_RECORDS = 1024  # a read decodes whole blocks, so this bounds the decoded records that it discards
_BLOCK_BYTES = 1 << 20
_READ_BYTES = 64 << 20  # a read stops at this size, below its limit too
_OFFSET_BITS = 48  # a block's id is its partition above these bits and its first offset in them
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_HOUSEKEEPING_BLOCKS = 256  # per transaction, so that appends are not delayed

Body = tuple[Sequence[bytes | None], Sequence[bytes | None], Sequence[int] | None]

_encode = msgspec.msgpack.Encoder().encode  # keys, values, and offsets relative to the first if there are gaps
_decode = msgspec.msgpack.Decoder(tuple[list[bytes | None], list[bytes | None], list[int] | None]).decode

_TABLES = (
    "CREATE TABLE topic (partitions INTEGER NOT NULL, compacted INTEGER NOT NULL, durable INTEGER NOT NULL)",
    "CREATE TABLE partitions (partition INTEGER PRIMARY KEY, start INTEGER NOT NULL, end INTEGER NOT NULL,"
    " time INTEGER NOT NULL)",
    "CREATE TABLE blocks (id INTEGER PRIMARY KEY, next INTEGER NOT NULL, time INTEGER NOT NULL, body BLOB NOT NULL)",
)


def create_topic(path: Path, partitions: int, compacted: bool, durable: bool) -> None:
    """Create the file of a topic unless it exists."""
    if not 1 <= partitions <= 1 << 14:
        raise ValueError(f"partitions must be 1 to {1 << 14}, got {partitions}")
    rows = (
        f"INSERT INTO topic VALUES ({partitions}, {compacted:d}, {durable:d})",
        *(f"INSERT INTO partitions VALUES ({partition}, 0, 0, 0)" for partition in range(partitions)),
    )
    SQLiteDatabase(path, (*_TABLES, *rows), SCHEMA_VERSION, _PAGE_SIZE).close()


class LocalTopic:
    """Open an existing topic; raises NoSuchDatabase otherwise."""

    def __init__(self, path: Path) -> None:
        self._file = SQLiteDatabase(path, (), SCHEMA_VERSION, _PAGE_SIZE)
        ((partitions, compacted, durable),) = self._file.reader.fetch_all("SELECT * FROM topic")
        self.partitions = int(partitions)
        self.compacted = bool(compacted)
        self.id = self._read_id()  # durable in every topic: all positions in it depend on it
        self._file.set_durable(bool(durable))

    def _read_id(self) -> str:
        """Id of this file, which a copy shares; a file of an older version gets one now."""
        if self._file.reader.fetch_all("SELECT 1 FROM sqlite_master WHERE name = 'identity'"):
            return str(self._file.reader.fetch_all("SELECT id FROM identity")[0][0])
        with self._file.write_transaction() as db:
            db.execute("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)")
            missing = "WHERE NOT EXISTS (SELECT * FROM identity)"
            db.execute(f"INSERT INTO identity SELECT lower(hex(randomblob(16))) {missing}")
            (topic_id,) = db.execute("SELECT id FROM identity").fetchone()
        return str(topic_id)

    def append_many(self, batches: Mapping[int, Sequence[Record]], now_ms: int) -> dict[int, int]:
        blocks = {
            self.validate_partition(partition): list(_encode_blocks(records)) for partition, records in batches.items()
        }
        first_offsets = {}
        with self._file.write_transaction() as db:
            for partition, partition_blocks in blocks.items():
                query = "SELECT end, time FROM partitions WHERE partition = ?"
                end, time = db.execute(query, (partition,)).fetchone()
                first_offsets[partition] = end
                time = next_append_time(time, now_ms)
                for count, body in partition_blocks:
                    row = (_block_id(partition, end), end + count, time, body)
                    db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
                    end += count
                db.execute("UPDATE partitions SET end = ?, time = ? WHERE partition = ?", (end, time, partition))
        return first_offsets

    def bounds(self, reader: SQLiteReader | None = None) -> dict[int, tuple[int, int]]:
        """Start and end offset by partition."""
        rows = (reader or self._file.reader).fetch_all("SELECT partition, start, end FROM partitions")
        return {partition: (start, end) for partition, start, end in rows}

    def read(self, partition: int, offset: int, limit: int, reader: SQLiteReader | None = None) -> Records:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        with (reader or self._file.reader).open_cursor() as cursor:
            query = "SELECT start, end FROM partitions WHERE partition = ?"
            start, end = cursor.execute(query, (partition,)).fetchone()
            offset = max(offset, start)
            if offset >= end:  # without this, the query would read the last block, which can be large
                return Records(partition, [], [], [], [])
            rows = cursor.execute(
                "SELECT id, next, time, body FROM blocks WHERE id <= :last AND id >="
                " (SELECT coalesce(max(id), :at) FROM blocks WHERE id BETWEEN :first AND :at) ORDER BY id",
                {
                    "first": _block_id(partition, 0),
                    "at": _block_id(partition, offset),
                    "last": _block_id(partition, _OFFSET_MASK),
                },
            )
            try:
                return _gather(rows, partition, offset, limit)
            except msgspec.DecodeError as error:
                raise corruption_error(
                    self._file.path, f"partition {partition} from offset {offset}: {error}"
                ) from error

    def offset_for_time(self, partition: int, ts: int) -> int:
        def is_appended_since(offset: int) -> bool:
            query = "SELECT time FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1"
            rows = self._file.reader.fetch_all(query, (_block_id(partition, 0), _block_id(partition, offset)))
            return bool(rows) and rows[0][0] >= ts

        start, end = self.bounds()[partition]
        return start + bisect_left(range(start, end), True, key=is_appended_since)

    def trim(self, partition: int, before: int) -> None:
        with self._file.write_transaction() as db:
            query = "UPDATE partitions SET start = max(start, min(end, ?)) WHERE partition = ?"
            db.execute(query, (before, partition))
        start, _ = self.bounds()[partition]
        n_deleted = _HOUSEKEEPING_BLOCKS
        while n_deleted == _HOUSEKEEPING_BLOCKS:
            with self._file.write_transaction() as db:
                selection = "SELECT id FROM blocks WHERE id BETWEEN ? AND ? AND next <= ? LIMIT ?"
                values = (_block_id(partition, 0), _block_id(partition, start), start, _HOUSEKEEPING_BLOCKS)
                n_deleted = db.execute(f"DELETE FROM blocks WHERE id IN ({selection})", values).rowcount

    def compact(self, before: int, tombstones_before: int) -> None:
        """Delete replaced records and old tombstones.

        Both must be appended before the given times, ms. It goes from the oldest block on, except the last block, so
        that a tombstone outlives the values it deletes.
        """
        for partition in range(self.partitions):
            _, end = self.bounds()[partition]
            newest: dict[bytes | None, int] = {}
            for block_id, _, _, body in self._iter_blocks(partition, end):
                keys, _, deltas = _decode(body)
                newest.update(zip(keys, _block_offsets(block_id, len(keys), deltas), strict=True))
            position = 0
            while position < end:
                position = self._compact_blocks(partition, position, newest, before, min(before, tombstones_before))

    def _iter_blocks(self, partition: int, end: int) -> Iterator[tuple[int, int, int, bytes]]:
        position = 0
        while position < end:
            rows = self._file.reader.fetch_all(_SELECT_BLOCKS, _block_range(partition, position))
            yield from rows
            position = rows[-1][1] if rows else end

    def _compact_blocks(
        self, partition: int, position: int, newest: dict[bytes | None, int], before: int, tombstones_before: int
    ) -> int:
        """Rewrite some blocks from `position` on; returns the next position."""
        with self._file.write_transaction() as db:
            (end,) = db.execute("SELECT end FROM partitions WHERE partition = ?", (partition,)).fetchone()
            rows = db.execute(_SELECT_BLOCKS, _block_range(partition, position)).fetchall()
            for block_id, next_offset, time, body in rows:
                if next_offset == end or time >= before:
                    return int(end)
                keys, values, deltas = _decode(body)
                offsets = _block_offsets(block_id, len(keys), deltas)
                mask = [
                    (key is None or newest.get(key, -1) <= offset) and (value is not None or time >= tombstones_before)
                    for key, value, offset in zip(keys, values, offsets, strict=True)
                ]
                if not any(mask):
                    db.execute("DELETE FROM blocks WHERE id = ?", (block_id,))
                elif not all(mask):
                    first = block_id & _OFFSET_MASK
                    remaining = [offset - first for offset in compress(offsets, mask)]
                    new_body = _encode((list(compress(keys, mask)), list(compress(values, mask)), remaining))
                    db.execute("UPDATE blocks SET body = ? WHERE id = ?", (new_body, block_id))
        return rows[-1][1] if rows else int(end)

    def open_reader(self) -> SQLiteReader:
        return self._file.open_reader()

    def validate_partition(self, partition: int) -> int:
        if not 0 <= partition < self.partitions:
            raise ValueError(f"{self._file.path} has partitions 0 to {self.partitions - 1}, got {partition}")
        return partition

    def close(self) -> None:
        self._file.close()


_SELECT_BLOCKS = "SELECT id, next, time, body FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"


def _block_range(partition: int, position: int) -> tuple[int, int, int]:
    return _block_id(partition, position), _block_id(partition, _OFFSET_MASK), _HOUSEKEEPING_BLOCKS


def _block_id(partition: int, offset: int) -> int:
    return partition << _OFFSET_BITS | offset


def _block_offsets(block_id: int, count: int, deltas: Sequence[int] | None) -> Sequence[int]:
    first = block_id & _OFFSET_MASK
    return range(first, first + count) if deltas is None else [first + delta for delta in deltas]


def _encode_blocks(records: Sequence[Record]) -> Iterator[tuple[int, bytes]]:
    """Split records into encoded blocks: (count, body)."""
    for begin in range(0, len(records), _BLOCK_RECORDS):
        keys, values = zip(*records[begin : begin + _BLOCK_RECORDS], strict=True)
        for column in (keys, values):
            invalid_types = set(map(type, column)) - {bytes, type(None)}
            if invalid_types:
                raise TypeError(f"keys and values must be bytes or None, got {invalid_types.pop().__name__}")
        yield from _split_by_size(keys, values)


def _split_by_size(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> Iterator[tuple[int, bytes]]:
    body = _encode((keys, values, None))
    if len(body) <= _BLOCK_BYTES or len(keys) == 1:
        yield len(keys), body
        return
    middle = len(keys) // 2
    yield from _split_by_size(keys[:middle], values[:middle])
    yield from _split_by_size(keys[middle:], values[middle:])


def _gather(rows: Iterable[tuple[int, int, int, bytes]], partition: int, offset: int, limit: int) -> Records:
    """Collect the first `limit` records at or after `offset` from blocks in order."""
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    times: list[int] = []
    size = 0
    for block_id, next_offset, time, body in rows:
        if next_offset <= offset:
            continue
        block_keys, block_values, deltas = _decode(body)
        block_offsets = _block_offsets(block_id, len(block_keys), deltas)
        begin = bisect_left(block_offsets, offset)
        selection = slice(begin, begin + limit - len(offsets))
        offsets += block_offsets[selection]
        keys += block_keys[selection]
        values += block_values[selection]
        times += [time] * (len(offsets) - len(times))
        size += len(body)
        if len(offsets) >= limit or size >= _READ_BYTES:
            break
    return Records(partition, offsets, keys, values, times)
