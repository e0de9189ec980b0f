"""Looks into Kafka's topics: where they begin and end, and what stands at an offset."""

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from stream.kafka.kafka_python.connections import At, Consumer, insist, reader
from stream.kafka.kafka_python.fast_decoding import records_of
from stream.kafka.url import Brokers
from stream.logs import Records

_MOST_BYTES = 64 << 20  # of one read
_AT_ONCE = 512  # records that are taken at least
_KEPT, _KEPT_BYTES = 24, 2 << 20  # reads whose records are kept, each up to so many bytes


class KafkaReader:
    """One consumer that belongs to no group; threads take turns."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._lock = threading.RLock()
        self._client: Consumer | None = None
        self._ends: dict[At, int] = {}  # as last heard: they only grow
        self._ahead: dict[
            At, tuple[int, list[Any]]
        ] = {}  # by partition: all records from an offset on, oldest read first
        self._reached: tuple[At, int] | None = None  # where the last read ended

    def starts(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return self._bounds("beginning_offsets", topic, partitions)

    def ends(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return self._bounds("end_offsets", topic, partitions)

    def _bounds(self, side: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        wanted = [At(topic, partition) for partition in partitions]
        with self._lock:
            found: Mapping[Any, int] = insist(self._brokers, lambda: getattr(self._consumer(), side)(wanted))
        return {at.partition: offset for at, offset in found.items()}

    def find_time(self, topic: str, partition: int, ts: int) -> int:
        """Offset of the first record appended at or after `ts`; the end if there is none."""
        at = At(topic, partition)
        with self._lock:
            found = insist(self._brokers, lambda: self._consumer().offsets_for_times({at: max(0, ts)}))[at]
            return self.ends(topic, [partition])[partition] if found is None else int(found.offset)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        with self._lock:
            end = self._ends.get(At(topic, partition), 0)
            if offset + limit > end:
                end = self._ends[At(topic, partition)] = self.ends(topic, [partition])[partition]
            if offset >= end:
                return records_of(partition, [])
            found = self._kept(At(topic, partition), offset, end, limit)
            if found is None:
                found = insist(self._brokers, lambda: self._read(topic, partition, offset, end, limit))
                self._keep(At(topic, partition), offset, found)
            return records_of(partition, found[:limit])

    def forget(self, topic: str) -> None:
        """Read what there is, not what there was, after some of it was deleted."""
        with self._lock:
            self._ahead = {at: kept for at, kept in self._ahead.items() if at.topic != topic}

    def _kept(self, at: At, offset: int, end: int, limit: int) -> list[Any] | None:
        """What came along with an earlier read, if it is all that is asked for."""
        first, rows = self._ahead.get(at, (0, []))
        if not rows or not first <= offset <= rows[-1].offset:
            return None
        begin = bisect_left(rows, offset, key=lambda row: int(row.offset))
        found = rows[begin : begin + limit]
        return found if len(found) == limit or rows[-1].offset + 1 >= end else None

    def _keep(self, at: At, offset: int, found: list[Any]) -> None:
        self._ahead.pop(at, None)
        if sum(len(one.value or b"") for one in found) <= _KEPT_BYTES:
            self._ahead[at] = (offset, found)
        while len(self._ahead) > _KEPT:
            del self._ahead[next(iter(self._ahead))]

    def _read(self, topic: str, partition: int, offset: int, end: int, limit: int) -> list[Any]:
        """What the client gives for an offset up to the end as it was asked for, or more; [] if retention took all."""
        at, client = At(topic, partition), self._consumer()
        if self._reached != (at, offset):  # else what was fetched ahead is what is asked for
            client.assign([at])
            client.seek(at, offset)
        self._reached = None
        found: list[Any] = []
        size, deadline = 0, time.monotonic() + self._brokers.patience
        while len(found) < limit and size < _MOST_BYTES:
            # What was fetched is here already, and the next read mostly goes on where this one ends.
            got = client.poll(timeout_ms=1_000, max_records=max(limit - len(found), _AT_ONCE)).get(at, [])
            found += got
            size += sum(len(one.value or b"") + len(one.key or b"") for one in got)
            if (client.position(at, timeout_ms=1_000) or 0) >= end:
                break
            if got:
                deadline = time.monotonic() + self._brokers.patience
            elif time.monotonic() > deadline:
                raise ConnectionError(f"{self._brokers} sent nothing of {topic}, partition {partition}, from {offset}")
        if found:
            self._reached = (at, found[-1].offset + 1)
        return found

    def _consumer(self) -> Consumer:
        if self._client is None:
            self._client = reader(self._brokers)
        return self._client

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None
