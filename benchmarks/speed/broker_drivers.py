"""Kafka and Redis drivers: cost of the clients, and speed of the stream worker with them.

Uses the services of `make services`, or starts a broker and a Redis.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.harness import traffic
from benchmarks.harness.brokers import Services, isolated_prefix, open_services
from benchmarks.harness.runs import Numbers, RunSize, run_benchmark
from stream.config import EventsSettings, Settings
from stream.drivers import open_log, open_store
from stream.kafka.url import CLIENTS
from stream.logs import EventLog, Record
from stream.stores import UserStore
from stream.topics import create_topics
from stream.worker.worker import StreamWorker

USERS = ITEMS = 100_000
EVENTS_PER_RECORD = 64  # of a batching producer
_APPEND_SIZE = 4_096  # records


def measure(size: RunSize) -> Iterator[Numbers]:
    single = traffic.generate_organic(size.choose(200_000, 10_000), USERS, ITEMS)
    loads: dict[str, Sequence[Record]] = {
        "1 event per record": single,
        f"{EVENTS_PER_RECORD} events per record": batch_records(single),
    }
    gc.freeze()  # the generated events must not slow down the worker's garbage collection
    with open_services() as brokers:
        run_worker(brokers, single[:5_000])  # compiles the kernels
        for _ in range(size.runs):
            numbers: Numbers = {}
            for client in CLIENTS:
                client_brokers = replace(brokers, kafka=f"{brokers.kafka}?client={client}")
                for load, records in loads.items():
                    numbers |= measure_client(client_brokers, f"{client}, {load}", records, len(single))
                    numbers |= measure_worker(client_brokers, f"{client} and Redis, {load}", records, len(single))
            yield numbers


def batch_records(records: Sequence[Record]) -> list[Record]:
    """Batch the events of each user into arrays, one record each, as a batching producer does."""
    pending: dict[bytes, list[bytes]] = {}
    batches: list[Record] = []
    for key, value in records:
        user_events = pending.setdefault(key or b"", [])
        user_events.append(value or b"")
        if len(user_events) == EVENTS_PER_RECORD:
            batches.append((key, b"[" + b",".join(pending.pop(key or b"")) + b"]"))
    batches += [(key, b"[" + b",".join(values) + b"]") for key, values in pending.items()]
    return batches


def measure_client(brokers: Services, name: str, records: Sequence[Record], events: int) -> Numbers:
    """Measure the driver alone: append, then read with one consumer of a group."""
    with isolated_prefix(brokers) as prefix:
        log = open_log(brokers.kafka, prefix)
        try:
            return _measure_client(log, name, records, events)
        finally:
            log.close()


def _measure_client(log: EventLog, name: str, records: Sequence[Record], events: int) -> Numbers:
    log.create("events", 1)
    begin, cpu = time.perf_counter(), time.process_time()
    append_all(log, records)
    produce_seconds, produce_cpu = time.perf_counter() - begin, time.process_time() - cpu
    source = log.open_source("events", "bench")
    begin, cpu, n_read = time.perf_counter(), time.process_time(), 0
    while n_read < len(records):
        n_read += sum(map(len, source.next_batch(_APPEND_SIZE, timeout=10.0)))
    consume_seconds, consume_cpu = time.perf_counter() - begin, time.process_time() - cpu
    source.close()
    return {
        f"kafka: produce, {name}, events/s": events / produce_seconds,
        f"kafka: produce, {name}, CPU µs per record": 1e6 * produce_cpu / len(records),
        f"kafka: consume, {name}, events/s": events / consume_seconds,
        f"kafka: consume, {name}, CPU µs per record": 1e6 * consume_cpu / len(records),
    }


def append_all(log: EventLog, records: Sequence[Record]) -> None:
    for first in range(0, len(records), _APPEND_SIZE):
        log.append("events", 0, records[first : first + _APPEND_SIZE])


def measure_worker(brokers: Services, name: str, records: Sequence[Record], events: int) -> Numbers:
    wall, cpu = run_worker(brokers, records)
    return {
        f"stream: {name}, events/CPU s": events / cpu,
        f"stream: {name}, events/s": events / wall,
    }


def run_worker(brokers: Services, records: Sequence[Record]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of one stream worker for all records."""
    with isolated_prefix(brokers) as prefix:
        log, store = open_log(brokers.kafka, prefix), open_store(brokers.redis, prefix)
        try:
            create_topics(log)
            append_all(log, records)
            return _run_worker(log, store, len(records))
        finally:
            log.close()
            store.close()


def _run_worker(log: EventLog, store: UserStore, records: int) -> tuple[float, float]:
    worker = StreamWorker(log, store, Settings(events=EventsSettings(max_age=0)))
    done = worker.step(timeout=0)  # acquires its partition
    begin, cpu = time.perf_counter(), time.process_time()
    while done < records:
        done += worker.step(timeout=1.0)
    elapsed = time.perf_counter() - begin, time.process_time() - cpu
    worker.close()
    return elapsed


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
