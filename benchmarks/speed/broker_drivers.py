"""Kafka and Redis beneath the same processes: what their clients cost, and how fast the stream worker is through them.

Uses what `make services` left running, else starts a broker and a Redis of its own.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.harness import traffic
from benchmarks.harness.brokers import Services, room, services
from benchmarks.harness.runs import Numbers, Size, run_alone
from stream.config import Events, Settings
from stream.drivers import open_log, open_store
from stream.kafka.url import CLIENTS
from stream.logs import EventLog, Record
from stream.stores import UserStore
from stream.worker.worker import StreamWorker

USERS = ITEMS = 100_000
BATCHED = 64  # events of one record
_TOPICS = ("events", "examples", "users", "dead-letter", "quarantine", "alarms")
_APPEND = 4_096  # records


def measure(size: Size) -> Iterator[Numbers]:
    single = traffic.organic(size.of(200_000, 10_000), USERS, ITEMS)
    loads = {1: single, BATCHED: arrays(single)}  # by events of one record
    gc.freeze()  # the events that producers have are none of the worker's
    with services() as found:
        through(found, single[:5_000])  # compiles
        for _ in range(size.runs):
            numbers: Numbers = {}
            for client in CLIENTS:
                asked = replace(found, kafka=f"{found.kafka}?client={client}")
                for load, records in loads.items():
                    numbers |= clients(asked, f"{client}, {load} a record", records, len(single))
                    numbers |= worked(asked, f"{client} and Redis, {load} a record", records, len(single))
            yield numbers


def arrays(records: Sequence[Record]) -> list[Record]:
    """The same events, so many of one record, as a producer's batch: each person's stand in one array."""
    held: dict[bytes, list[bytes]] = {}
    made: list[Record] = []
    for key, value in records:
        waiting = held.setdefault(key or b"", [])
        waiting.append(value or b"")
        if len(waiting) == BATCHED:
            made.append((key, b"[" + b",".join(held.pop(key or b"")) + b"]"))
    made += [(key, b"[" + b",".join(values) + b"]") for key, values in held.items()]
    return made


def clients(found: Services, name: str, records: Sequence[Record], events: int) -> Numbers:
    """The driver alone: appended, then read by one member of a group."""
    with room(found) as prefix:
        log = open_log(found.kafka, prefix)
        try:
            return _clients(log, name, records, events)
        finally:
            log.close()


def _clients(log: EventLog, name: str, records: Sequence[Record], events: int) -> Numbers:
    log.create("events", 1)
    begin, cpu = time.perf_counter(), time.process_time()
    appended(log, records)
    produced, produced_cpu = time.perf_counter() - begin, time.process_time() - cpu
    source = log.source("events", "bench")
    begin, cpu, seen = time.perf_counter(), time.process_time(), 0
    while seen < len(records):
        seen += sum(map(len, source.next_batch(_APPEND, timeout=10.0)))
    consumed, consumed_cpu = time.perf_counter() - begin, time.process_time() - cpu
    source.close()
    return {
        f"kafka: produced, {name}, events/s": events / produced,
        f"kafka: produced, {name}, CPU µs a record": 1e6 * produced_cpu / len(records),
        f"kafka: consumed, {name}, events/s": events / consumed,
        f"kafka: consumed, {name}, CPU µs a record": 1e6 * consumed_cpu / len(records),
    }


def appended(log: EventLog, records: Sequence[Record]) -> None:
    for first in range(0, len(records), _APPEND):
        log.append("events", 0, records[first : first + _APPEND])


def worked(found: Services, name: str, records: Sequence[Record], events: int) -> Numbers:
    wall, cpu = through(found, records)
    return {
        f"stream: {name}, events/s of CPU": events / cpu,
        f"stream: {name}, events/s": events / wall,
    }


def through(found: Services, records: Sequence[Record]) -> tuple[float, float]:
    """Seconds on the wall and of CPU that one stream worker takes for all records."""
    with room(found) as prefix:
        log, store = open_log(found.kafka, prefix), open_store(found.redis, prefix)
        try:
            for topic in _TOPICS:
                log.create(topic, 1, compacted=topic == "users")
            appended(log, records)
            return _through(log, store, len(records))
        finally:
            log.close()
            store.close()


def _through(log: EventLog, store: UserStore, records: int) -> tuple[float, float]:
    worker = StreamWorker(log, store, Settings(events=Events(max_age=0)))
    done = worker.step(timeout=0)  # takes up its partition
    begin, cpu = time.perf_counter(), time.process_time()
    while done < records:
        done += worker.step(timeout=1.0)
    took = time.perf_counter() - begin, time.process_time() - cpu
    worker.close()
    return took


if __name__ == "__main__":
    run_alone(__doc__, measure)
