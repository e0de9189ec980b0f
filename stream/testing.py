"""Fakes for tests, with the protocols of the drivers: log, store, clock, crash."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stream.clock import ManualClock
from stream.logs import Record
from stream.memory.log import Crash, MemoryLog
from stream.memory.source import Crashed, MemorySource
from stream.memory.store import MemoryStore, StoreSnapshot
from stream.topics import create_topics

__all__ = [
    "Crash",
    "Crashed",
    "ManualClock",
    "MemoryLog",
    "MemorySource",
    "MemoryStore",
    "MemorySystem",
    "StoreSnapshot",
    "memory_system",
]


class MemorySystem(NamedTuple):
    """A log with every topic, a user store and a clock, for workers of one process."""

    log: MemoryLog
    store: MemoryStore
    clock: ManualClock


def memory_system(
    topics: Mapping[str, Sequence[bytes | Record | Crash]] | None = None,
    *,
    partitions: int = 1,
    clock: ManualClock | None = None,
) -> MemorySystem:
    """Build a log with the nine topics, an empty user store and a clock.

    Entries of `topics` go to partition 0.

    >>> from stream.config import Settings
    >>> from stream.worker.worker import StreamWorker
    >>> event = b'{"event_id":"e1","type":"click","ts":5,"user_id":"u1","item_id":"a"}'
    >>> log, store, clock = memory_system({"events": [event]}, clock=ManualClock(9))
    >>> worker = StreamWorker(log, store, Settings())
    >>> while worker.step(timeout=0) or not store.count():
    ...     pass
    >>> log.end_offset("examples", 0)
    1
    """
    clock = clock or ManualClock()
    log = MemoryLog(clock=clock)
    create_topics(log, partitions)
    for topic, entries in (topics or {}).items():
        log.append_entries(topic, entries)
    return MemorySystem(log, MemoryStore(), clock)
