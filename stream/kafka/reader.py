"""Random access to Kafka topics: their bounds, and the records at an offset."""

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from stream.kafka.kafka_python.connections import RawConsumer, TopicAndPartition, create_reader, retry
from stream.kafka.kafka_python.fast_decoding import to_records
from stream.kafka.url import KafkaSettings
from stream.logs import Records

_MAX_READ_BYTES = 64 << 20  # per read
_MIN_POLL_RECORDS = 512  # lower bound of max_records
_CACHED_READS, _CACHED_READ_BYTES = 24, 2 << 20  # number of cached reads, and the size limit of each


class KafkaReader:
    """One consumer without a group; threads take turns."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._client: RawConsumer | None = None
        self._end_offsets: dict[TopicAndPartition, int] = {}  # latest known values; they only grow
        # By partition: an offset, and all records from there on that one read has returned. Oldest read first.
        self._cached_reads: dict[TopicAndPartition, tuple[int, list[Any]]] = {}
        self._last_read_end: tuple[TopicAndPartition, int] | None = None  # next offset after the last read

    def start_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return self._bounds("beginning_offsets", topic, partitions)

    def end_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return self._bounds("end_offsets", topic, partitions)

    def _bounds(self, method: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        topic_partitions = [TopicAndPartition(topic, partition) for partition in partitions]
        with self._lock:
            offsets: Mapping[Any, int] = retry(
                self._settings, lambda: getattr(self._consumer(), method)(topic_partitions)
            )
        return {key.partition: offset for key, offset in offsets.items()}

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        """Offset of the first record appended at or after `ts`, ms; the end offset if there is none."""
        topic_partition = TopicAndPartition(topic, partition)
        request = {topic_partition: max(0, ts)}
        with self._lock:
            entry = retry(self._settings, lambda: self._consumer().offsets_for_times(request))[topic_partition]
            return self.end_offsets(topic, [partition])[partition] if entry is None else int(entry.offset)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        topic_partition = TopicAndPartition(topic, partition)
        with self._lock:
            end = self._end_offsets.get(topic_partition, 0)
            if offset + limit > end:
                end = self._end_offsets[topic_partition] = self.end_offsets(topic, [partition])[partition]
            if offset >= end:
                return to_records(partition, [])
            rows = self._find_cached(topic_partition, offset, end, limit)
            if rows is None:
                rows = retry(self._settings, lambda: self._read(topic_partition, offset, end, limit))
                self._cache_rows(topic_partition, offset, rows)
            return to_records(partition, rows[:limit])

    def invalidate(self, topic: str) -> None:
        """Drop cached reads of a topic after records were deleted."""
        with self._lock:
            self._cached_reads = {key: cached for key, cached in self._cached_reads.items() if key.topic != topic}

    def _find_cached(self, topic_partition: TopicAndPartition, offset: int, end: int, limit: int) -> list[Any] | None:
        """Records from the cache; None unless it has all that the read needs."""
        first, rows = self._cached_reads.get(topic_partition, (0, []))
        if not rows or not first <= offset <= rows[-1].offset:
            return None
        begin = bisect_left(rows, offset, key=lambda row: int(row.offset))
        matches = rows[begin : begin + limit]
        return matches if len(matches) == limit or rows[-1].offset + 1 >= end else None

    def _cache_rows(self, topic_partition: TopicAndPartition, offset: int, rows: list[Any]) -> None:
        self._cached_reads.pop(topic_partition, None)
        if sum(len(row.value or b"") for row in rows) <= _CACHED_READ_BYTES:
            self._cached_reads[topic_partition] = (offset, rows)
        while len(self._cached_reads) > _CACHED_READS:
            del self._cached_reads[next(iter(self._cached_reads))]

    def _read(self, topic_partition: TopicAndPartition, offset: int, end: int, limit: int) -> list[Any]:
        """Records from an offset on, at least `limit` or up to `end`; [] if all are deleted."""
        client = self._consumer()
        if self._last_read_end != (topic_partition, offset):  # else the prefetched records continue the last read
            client.assign([topic_partition])
            client.seek(topic_partition, offset)
        self._last_read_end = None
        rows: list[Any] = []
        size, deadline = 0, time.monotonic() + self._settings.retry_timeout
        while len(rows) < limit and size < _MAX_READ_BYTES:
            # Take all that was fetched: the next read usually continues where this one ends.
            max_records = max(limit - len(rows), _MIN_POLL_RECORDS)
            new_rows = client.poll(timeout_ms=1_000, max_records=max_records).get(topic_partition, [])
            rows += new_rows
            size += sum(len(row.value or b"") + len(row.key or b"") for row in new_rows)
            if (client.position(topic_partition, timeout_ms=1_000) or 0) >= end:
                break
            if new_rows:
                deadline = time.monotonic() + self._settings.retry_timeout
            elif time.monotonic() > deadline:
                raise ConnectionError(f"{self._settings} sent no records of {topic_partition} from offset {offset}")
        if rows:
            self._last_read_end = (topic_partition, rows[-1].offset + 1)
        return rows

    def _consumer(self) -> RawConsumer:
        if self._client is None:
            self._client = create_reader(self._settings)
        return self._client

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None
