"""One topic in one SQLite file: blocks of records, numbered within their partition."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path

import msgspec

from stream.local.sqlite import Reader, SqliteFile, damaged
from stream.logs import Record, Records

SCHEMA_VERSION = 1
_PAGE_SIZE = 16384
_BLOCK_RECORDS = 1024  # a read decodes whole blocks, so this bounds what it throws away
_BLOCK_BYTES = 1 << 20
_READ_BYTES = 64 << 20  # a read stops here, whatever its limit
_OFFSET_BITS = 48  # a block's id is its partition above these bits and its first offset in them
_OFFSETS = (1 << _OFFSET_BITS) - 1
_HOUSEKEEPING_BLOCKS = 256  # per transaction, so that appends get their turn

Body = tuple[Sequence[bytes | None], Sequence[bytes | None], Sequence[int] | None]

_encode = msgspec.msgpack.Encoder().encode  # keys, values, and places relative to the block's first if there are gaps
_decode = msgspec.msgpack.Decoder(tuple[list[bytes | None], list[bytes | None], list[int] | None]).decode

_TABLES = (
    "CREATE TABLE topic (partitions INTEGER NOT NULL, compacted INTEGER NOT NULL, durable INTEGER NOT NULL)",
    "CREATE TABLE partitions (partition INTEGER PRIMARY KEY, start INTEGER NOT NULL, end INTEGER NOT NULL,"
    " time INTEGER NOT NULL)",
    "CREATE TABLE blocks (id INTEGER PRIMARY KEY, next INTEGER NOT NULL, time INTEGER NOT NULL, body BLOB NOT NULL)",
)


def create_topic(path: Path, partitions: int, compacted: bool, durable: bool) -> None:
    """Make the file unless it is there."""
    if not 1 <= partitions <= 1 << 14:
        raise ValueError(f"partitions must be 1 to {1 << 14}, got {partitions}")
    rows = (
        f"INSERT INTO topic VALUES ({partitions}, {compacted:d}, {durable:d})",
        *(f"INSERT INTO partitions VALUES ({partition}, 0, 0, 0)" for partition in range(partitions)),
    )
    SqliteFile(path, (*_TABLES, *rows), SCHEMA_VERSION, _PAGE_SIZE).close()


class LocalTopic:
    """A topic that exists; raises NotCreated otherwise."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, (), SCHEMA_VERSION, _PAGE_SIZE)
        ((partitions, compacted, durable),) = self._file.reader.rows("SELECT * FROM topic")
        self.partitions = int(partitions)
        self.compacted = bool(compacted)
        self._file.set_durable(bool(durable))

    def append_many(self, batches: Mapping[int, Sequence[Record]], now_ms: int) -> dict[int, int]:
        blocks = {self.known(partition): list(_blocks(records)) for partition, records in batches.items()}
        firsts = {}
        with self._file.writing() as db:
            for partition, cut in blocks.items():
                query = "SELECT end, time FROM partitions WHERE partition = ?"
                end, time = db.execute(query, (partition,)).fetchone()
                firsts[partition] = end
                time = max(time, now_ms)
                for count, body in cut:
                    row = (_id(partition, end), end + count, time, body)
                    db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
                    end += count
                db.execute("UPDATE partitions SET end = ?, time = ? WHERE partition = ?", (end, time, partition))
        return firsts

    def bounds(self, reader: Reader | None = None) -> dict[int, tuple[int, int]]:
        """(start, end) by partition."""
        rows = (reader or self._file.reader).rows("SELECT partition, start, end FROM partitions")
        return {partition: (start, end) for partition, start, end in rows}

    def read(self, partition: int, offset: int, limit: int, reader: Reader | None = None) -> Records:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        with (reader or self._file.reader).reading() as cursor:
            query = "SELECT start, end FROM partitions WHERE partition = ?"
            start, end = cursor.execute(query, (partition,)).fetchone()
            offset = max(offset, start)
            if offset >= end:  # the last block, however large, need not be read to see that there is no other
                return Records(partition, [], [], [], [])
            rows = cursor.execute(
                "SELECT id, next, time, body FROM blocks WHERE id <= :last AND id >="
                " (SELECT coalesce(max(id), :at) FROM blocks WHERE id BETWEEN :first AND :at) ORDER BY id",
                {"first": _id(partition, 0), "at": _id(partition, offset), "last": _id(partition, _OFFSETS)},
            )
            try:
                return _gather(rows, partition, offset, limit)
            except msgspec.DecodeError as error:
                raise damaged(self._file.path, f"partition {partition} from offset {offset}: {error}") from error

    def find_time(self, partition: int, ts: int) -> int:
        def appended_since(offset: int) -> bool:
            query = "SELECT time FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1"
            rows = self._file.reader.rows(query, (_id(partition, 0), _id(partition, offset)))
            return bool(rows) and rows[0][0] >= ts

        start, end = self.bounds()[partition]
        return start + bisect_left(range(start, end), True, key=appended_since)

    def trim(self, partition: int, before: int) -> None:
        with self._file.writing() as db:
            raised = "UPDATE partitions SET start = max(start, min(end, ?)) WHERE partition = ?"
            db.execute(raised, (before, partition))
        start, _ = self.bounds()[partition]
        deleted = _HOUSEKEEPING_BLOCKS
        while deleted == _HOUSEKEEPING_BLOCKS:
            with self._file.writing() as db:
                chosen = "SELECT id FROM blocks WHERE id BETWEEN ? AND ? AND next <= ? LIMIT ?"
                values = (_id(partition, 0), _id(partition, start), start, _HOUSEKEEPING_BLOCKS)
                deleted = db.execute(f"DELETE FROM blocks WHERE id IN ({chosen})", values).rowcount

    def compact(self, before: int, ended: int) -> None:
        """Of what was appended before a time, ms, drop what was replaced; and tombstones older than `ended`.

        Oldest first, and never the last block: a tombstone goes only after the values it ended.
        """
        for partition in range(self.partitions):
            _, end = self.bounds()[partition]
            newest: dict[bytes | None, int] = {}
            for identity, _, _, body in self._each_block(partition, end):
                keys, _, places = _decode(body)
                newest.update(zip(keys, _offsets(identity, len(keys), places), strict=True))
            position = 0
            while position < end:
                position = self._compact_some(partition, position, newest, before, min(before, ended))

    def _each_block(self, partition: int, end: int) -> Iterator[tuple[int, int, int, bytes]]:
        position = 0
        while position < end:
            rows = self._file.reader.rows(_SOME_BLOCKS, _some(partition, position))
            yield from rows
            position = rows[-1][1] if rows else end

    def _compact_some(
        self, partition: int, position: int, newest: dict[bytes | None, int], before: int, ended: int
    ) -> int:
        """Rewrite some blocks from `position` on; where to go on."""
        with self._file.writing() as db:
            (end,) = db.execute("SELECT end FROM partitions WHERE partition = ?", (partition,)).fetchone()
            rows = db.execute(_SOME_BLOCKS, _some(partition, position)).fetchall()
            for identity, next_offset, time, body in rows:
                if next_offset == end or time >= before:
                    return int(end)
                keys, values, places = _decode(body)
                offsets = _offsets(identity, len(keys), places)
                kept = [
                    (key is None or newest.get(key, -1) <= offset) and (value is not None or time >= ended)
                    for key, value, offset in zip(keys, values, offsets, strict=True)
                ]
                if not any(kept):
                    db.execute("DELETE FROM blocks WHERE id = ?", (identity,))
                elif not all(kept):
                    first = identity & _OFFSETS
                    left = [offset - first for offset in compress(offsets, kept)]
                    shorter = _encode((list(compress(keys, kept)), list(compress(values, kept)), left))
                    db.execute("UPDATE blocks SET body = ? WHERE id = ?", (shorter, identity))
        return rows[-1][1] if rows else int(end)

    def open_reader(self) -> Reader:
        return self._file.open_reader()

    def known(self, partition: int) -> int:
        if not 0 <= partition < self.partitions:
            raise ValueError(f"{self._file.path} has partitions 0 to {self.partitions - 1}, got {partition}")
        return partition

    def close(self) -> None:
        self._file.close()


_SOME_BLOCKS = "SELECT id, next, time, body FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"


def _some(partition: int, position: int) -> tuple[int, int, int]:
    return _id(partition, position), _id(partition, _OFFSETS), _HOUSEKEEPING_BLOCKS


def _id(partition: int, offset: int) -> int:
    return partition << _OFFSET_BITS | offset


def _offsets(identity: int, count: int, places: Sequence[int] | None) -> Sequence[int]:
    first = identity & _OFFSETS
    return range(first, first + count) if places is None else [first + place for place in places]


def _blocks(records: Sequence[Record]) -> Iterator[tuple[int, bytes]]:
    """Cut records into encoded blocks: (count, body)."""
    for begin in range(0, len(records), _BLOCK_RECORDS):
        keys, values = zip(*records[begin : begin + _BLOCK_RECORDS], strict=True)
        for column in (keys, values):
            wrong = set(map(type, column)) - {bytes, type(None)}
            if wrong:
                raise TypeError(f"keys and values must be bytes or None, got {wrong.pop().__name__}")
        yield from _small_enough(keys, values)


def _small_enough(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> Iterator[tuple[int, bytes]]:
    body = _encode((keys, values, None))
    if len(body) <= _BLOCK_BYTES or len(keys) == 1:
        yield len(keys), body
        return
    middle = len(keys) // 2
    yield from _small_enough(keys[:middle], values[:middle])
    yield from _small_enough(keys[middle:], values[middle:])


def _gather(rows: Iterable[tuple[int, int, int, bytes]], partition: int, offset: int, limit: int) -> Records:
    """The first `limit` records at or after `offset` out of blocks in order."""
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    times: list[int] = []
    size = 0
    for identity, next_offset, time, body in rows:
        if next_offset <= offset:
            continue
        block_keys, block_values, places = _decode(body)
        block_offsets = _offsets(identity, len(block_keys), places)
        begin = bisect_left(block_offsets, offset)
        taken = slice(begin, begin + limit - len(offsets))
        offsets += block_offsets[taken]
        keys += block_keys[taken]
        values += block_values[taken]
        times += [time] * (len(offsets) - len(times))
        size += len(body)
        if len(offsets) >= limit or size >= _READ_BYTES:
            break
    return Records(partition, offsets, keys, values, times)
