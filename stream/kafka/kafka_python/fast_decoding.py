"""Unpacks the batches that Kafka sends in compiled code: kafka-python's own loop takes ten times as long a record.

What is replaced is one method of its fetcher, the loop over the records of what was fetched; offsets, checksums,
compression and what becomes of a damaged batch stay the library's. Where a later version has no such method, its own
loop is used.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from kafka import errors
from kafka.consumer.fetcher import Fetcher

from stream.jit import kernel
from stream.logs import Records

_PATCHED_METHOD = "_unpack_records"
_MAGIC_V2 = 2  # format of a batch; those before Kafka 0.11 are left to the library


class KafkaRecord(NamedTuple):
    """One record."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


def patch_decoding(consumer: Any) -> Any:
    """Have a consumer of kafka-python unpack what it fetches with the kernel below; returns it."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if hasattr(getattr(fetcher, "PartitionRecords", None), _PATCHED_METHOD):
        fetcher.PartitionRecords = _FastPartitionRecords
    return consumer


class _FastPartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # the library has no types
    """What was fetched of one partition, record by record."""

    def _unpack_records(self, topic_partition: Any, records: Any, *_: object) -> Iterator[KafkaRecord]:
        for batch in iter(records.next_batch, None):
            if self.check_crcs and not batch.validate_crc():
                raise errors.CorruptRecordError(
                    f"a batch of {topic_partition} at offset {batch.base_offset} fails its checksum"
                )
            if batch.magic >= _MAGIC_V2:
                self.leader_epoch = batch.leader_epoch
            if not getattr(batch, "is_control_batch", False):
                self.bytes_read += batch.size_in_bytes
                for row in _decode_batch(batch):
                    self.records_read += 1
                    self.next_fetch_offset = row.offset + 1
                    yield row
            if batch.magic >= _MAGIC_V2:
                # Records at its end may have been compacted away: the next fetch begins behind them all the same.
                self.next_fetch_offset = batch.next_offset
        self.drain()


def _decode_batch(batch: Any) -> Iterable[KafkaRecord]:
    if batch.magic < _MAGIC_V2:
        return (KafkaRecord(record.offset, record.key, record.value, record.timestamp) for record in batch)
    iter(batch)  # decompresses it
    data = bytes(memoryview(batch._buffer)[batch._pos :])
    fields = np.empty((6, batch.records_count), np.int64)
    if _decode_offsets(np.frombuffer(data, np.uint8), fields) != len(data):
        raise errors.CorruptRecordError(f"a batch at offset {batch.base_offset} has a record of an impossible length")
    offsets = (fields[0] + batch.base_offset).tolist()
    keys, values = _slice_column(data, fields[2], fields[3]), _slice_column(data, fields[4], fields[5])
    if batch.timestamp_type:  # the broker's, one for the whole batch
        times = [batch.max_timestamp] * len(offsets)
    else:
        times = (fields[1] + batch.first_timestamp).tolist()
    return map(KafkaRecord._make, zip(offsets, keys, values, times, strict=True))


def _slice_column(data: bytes, starts: np.ndarray, ends: np.ndarray) -> list[bytes | None]:
    return [data[start:end] if start >= 0 else None for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


@kernel
def _decode_offsets(data: np.ndarray, fields: np.ndarray) -> int:
    """Where each record's parts are; returns the end of the last one, -1 if a length leads beyond the data.

    `fields` (6, n): offset and time since those of the batch, start and end of key and value; a start of -1 is none.
    See https://kafka.apache.org/documentation/#record for the format.
    """
    pos = 0
    for row in range(fields.shape[1]):
        length, pos = _read_varint(data, pos)
        end = pos + length
        if pos < 0 or length < 1 or end > data.size:
            return -1
        pos += 1  # attributes, of which there are none
        fields[1, row], pos = _read_varint(data, pos)
        fields[0, row], pos = _read_varint(data, pos)
        for column in (2, 4):
            size, pos = _read_varint(data, pos)
            if pos < 0 or size > end - pos:
                return -1
            fields[column, row] = pos if size >= 0 else -1
            pos += max(size, 0)
            fields[column + 1, row] = pos
        headers, pos = _read_varint(data, pos)
        for _ in range(2 * max(headers, 0)):
            size, pos = _read_varint(data, pos)
            if pos < 0 or size > end - pos:
                return -1
            pos += max(size, 0)
        if pos != end:
            return -1
    return pos


@kernel
def _read_varint(data: np.ndarray, pos: int) -> tuple[int, int]:
    """A number of variable length, zigzag encoded, and where it ends; -1 if it does not end within the data."""
    value, shift = 0, 0
    while 0 <= pos < data.size and shift < 63:
        byte = int(data[pos])
        value |= (byte & 127) << shift
        pos += 1
        if byte < 128:
            return (value >> 1) ^ -(value & 1), pos
        shift += 7
    return 0, -1


def to_records(partition: int, rows: Sequence[Any]) -> Records:
    """What the client gives, as columns."""
    if rows and type(rows[0]) is KafkaRecord:
        offsets, keys, values, times = zip(*rows, strict=True)
        return Records(partition, offsets, keys, values, times)
    return Records(
        partition,
        [row.offset for row in rows],
        [row.key for row in rows],
        [row.value for row in rows],
        [row.timestamp for row in rows],
    )
