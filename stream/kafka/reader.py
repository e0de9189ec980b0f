"""Looks into Kafka's topics: where they begin and end, and what stands at an offset."""

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from stream.kafka.kafka_python.connections import RawConsumer, TopicAndPartition, create_reader, retry
from stream.kafka.kafka_python.fast_decoding import to_records
from stream.kafka.url import KafkaSettings
from stream.logs import Records

_MAX_READ_BYTES = 64 << 20  # of one read
_MIN_POLL_RECORDS = 512  # records that are taken at least
_CACHED_READS, _CACHED_READ_BYTES = 24, 2 << 20  # reads whose records are kept, each up to so many bytes


class KafkaReader:
    """One consumer that belongs to no group; threads take turns."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._client: RawConsumer | None = None
        self._end_offsets: dict[TopicAndPartition, int] = {}  # as last heard: they only grow
        self._cached_reads: dict[
            TopicAndPartition, tuple[int, list[Any]]
        ] = {}  # by partition: all records from an offset on, oldest read first
        self._last_read_end: tuple[TopicAndPartition, int] | None = None  # where the last read ended

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
        return {topic_partition.partition: offset for topic_partition, offset in offsets.items()}

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        """Offset of the first record appended at or after `ts`; the end if there is none."""
        topic_partition = TopicAndPartition(topic, partition)
        with self._lock:
            entry = retry(self._settings, lambda: self._consumer().offsets_for_times({topic_partition: max(0, ts)}))[
                topic_partition
            ]
            return self.end_offsets(topic, [partition])[partition] if entry is None else int(entry.offset)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        with self._lock:
            end = self._end_offsets.get(TopicAndPartition(topic, partition), 0)
            if offset + limit > end:
                end = self._end_offsets[TopicAndPartition(topic, partition)] = self.end_offsets(topic, [partition])[
                    partition
                ]
            if offset >= end:
                return to_records(partition, [])
            rows = self._find_cached(TopicAndPartition(topic, partition), offset, end, limit)
            if rows is None:
                rows = retry(self._settings, lambda: self._read(topic, partition, offset, end, limit))
                self._cache_rows(TopicAndPartition(topic, partition), offset, rows)
            return to_records(partition, rows[:limit])

    def invalidate(self, topic: str) -> None:
        """Read what there is, not what there was, after some of it was deleted."""
        with self._lock:
            self._cached_reads = {
                topic_partition: cached
                for topic_partition, cached in self._cached_reads.items()
                if topic_partition.topic != topic
            }

    def _find_cached(self, topic_partition: TopicAndPartition, offset: int, end: int, limit: int) -> list[Any] | None:
        """What came along with an earlier read, if it is all that is asked for."""
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

    def _read(self, topic: str, partition: int, offset: int, end: int, limit: int) -> list[Any]:
        """What the client gives for an offset up to the end as it was asked for, or more; [] if retention took all."""
        topic_partition, client = TopicAndPartition(topic, partition), self._consumer()
        if self._last_read_end != (topic_partition, offset):  # else what was fetched ahead is what is asked for
            client.assign([topic_partition])
            client.seek(topic_partition, offset)
        self._last_read_end = None
        rows: list[Any] = []
        size, deadline = 0, time.monotonic() + self._settings.retry_timeout
        while len(rows) < limit and size < _MAX_READ_BYTES:
            # What was fetched is here already, and the next read mostly goes on where this one ends.
            new_rows = client.poll(timeout_ms=1_000, max_records=max(limit - len(rows), _MIN_POLL_RECORDS)).get(
                topic_partition, []
            )
            rows += new_rows
            size += sum(len(row.value or b"") + len(row.key or b"") for row in new_rows)
            if (client.position(topic_partition, timeout_ms=1_000) or 0) >= end:
                break
            if new_rows:
                deadline = time.monotonic() + self._settings.retry_timeout
            elif time.monotonic() > deadline:
                raise ConnectionError(f"{self._settings} sent nothing of {topic}, partition {partition}, from {offset}")
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
