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

_REPLACED = "_unpack_records"
_LATEST = 2  # format of a batch; those before Kafka 0.11 are left to the library


class Row(NamedTuple):
    """One record."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


def unpack_fast(consumer: Any) -> Any:
    """Have a consumer of kafka-python unpack what it fetches with the kernel below; returns it."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if hasattr(getattr(fetcher, "PartitionRecords", None), _REPLACED):
        fetcher.PartitionRecords = _Unpacked
    return consumer


class _Unpacked(Fetcher.PartitionRecords):  # type: ignore[misc]  # the library has no types
    """What was fetched of one partition, record by record."""

    def _unpack_records(self, at: Any, records: Any, *_: object) -> Iterator[Row]:
        for batch in iter(records.next_batch, None):
            if self.check_crcs and not batch.validate_crc():
                raise errors.CorruptRecordError(f"a batch of {at} at offset {batch.base_offset} fails its checksum")
            if batch.magic >= _LATEST:
                self.leader_epoch = batch.leader_epoch
            if not getattr(batch, "is_control_batch", False):
                self.bytes_read += batch.size_in_bytes
                for row in _rows(batch):
                    self.records_read += 1
                    self.next_fetch_offset = row.offset + 1
                    yield row
            if batch.magic >= _LATEST:
                # Records at its end may have been compacted away: the next fetch begins behind them all the same.
                self.next_fetch_offset = batch.next_offset
        self.drain()


def _rows(batch: Any) -> Iterable[Row]:
    if batch.magic < _LATEST:
        return (Row(one.offset, one.key, one.value, one.timestamp) for one in batch)
    iter(batch)  # decompresses it
    data = bytes(memoryview(batch._buffer)[batch._pos :])
    fields = np.empty((6, batch.records_count), np.int64)
    if _unpack(np.frombuffer(data, np.uint8), fields) != len(data):
        raise errors.CorruptRecordError(f"a batch at offset {batch.base_offset} has a record of an impossible length")
    offsets = (fields[0] + batch.base_offset).tolist()
    keys, values = _cut(data, fields[2], fields[3]), _cut(data, fields[4], fields[5])
    if batch.timestamp_type:  # the broker's, one for the whole batch
        times = [batch.max_timestamp] * len(offsets)
    else:
        times = (fields[1] + batch.first_timestamp).tolist()
    return map(Row._make, zip(offsets, keys, values, times, strict=True))


def _cut(data: bytes, starts: np.ndarray, ends: np.ndarray) -> list[bytes | None]:
    return [data[start:end] if start >= 0 else None for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


@kernel
def _unpack(data: np.ndarray, fields: np.ndarray) -> int:
    """Where each record's parts are; returns the end of the last one, -1 if a length leads beyond the data.

    `fields` (6, n): offset and time since those of the batch, start and end of key and value; a start of -1 is none.
    See https://kafka.apache.org/documentation/#record for the format.
    """
    at = 0
    for row in range(fields.shape[1]):
        length, at = _varint(data, at)
        end = at + length
        if at < 0 or length < 1 or end > data.size:
            return -1
        at += 1  # attributes, of which there are none
        fields[1, row], at = _varint(data, at)
        fields[0, row], at = _varint(data, at)
        for part in (2, 4):
            size, at = _varint(data, at)
            if at < 0 or size > end - at:
                return -1
            fields[part, row] = at if size >= 0 else -1
            at += max(size, 0)
            fields[part + 1, row] = at
        headers, at = _varint(data, at)
        for _ in range(2 * max(headers, 0)):
            size, at = _varint(data, at)
            if at < 0 or size > end - at:
                return -1
            at += max(size, 0)
        if at != end:
            return -1
    return at


@kernel
def _varint(data: np.ndarray, at: int) -> tuple[int, int]:
    """A number of variable length, zigzag encoded, and where it ends; -1 if it does not end within the data."""
    number, shift = 0, 0
    while 0 <= at < data.size and shift < 63:
        byte = int(data[at])
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
    return 0, -1


def records_of(partition: int, found: Sequence[Any]) -> Records:
    """What the client gives, as columns."""
    if found and type(found[0]) is Row:
        offsets, keys, values, times = zip(*found, strict=True)
        return Records(partition, offsets, keys, values, times)
    return Records(
        partition,
        [one.offset for one in found],
        [one.key for one in found],
        [one.value for one in found],
        [one.timestamp for one in found],
    )
