"""Speed of the stream worker from JSON events to user state and examples, without a broker."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, RunSize, run_benchmark, temporary_folder
from stream.clock import DAY_MS, ManualClock
from stream.config import Settings
from stream.drivers import open_log, open_store
from stream.logs import EventLog, Record
from stream.stores import UserStore
from stream.testing import MemoryLog, MemoryStore
from stream.topics import create_topics
from stream.worker.worker import StreamWorker

USERS = ITEMS = 100_000
_APPEND_SIZE = 5_000  # records


def measure(size: RunSize) -> Iterator[Numbers]:
    organic = traffic.generate_organic(size.choose(1_000_000, 30_000), USERS, ITEMS)
    slates = traffic.generate_slates(size.choose(300_000, 15_000), USERS, ITEMS)
    measure_rate(MemoryLog(clock=_clock()), MemoryStore(), slates[:9_000])  # compiles the kernels
    gc.freeze()  # the events in memory must not slow down the worker's garbage collection
    for _ in range(size.runs):
        yield {
            "stream: clicks and views, events/s": measure_rate(MemoryLog(clock=_clock()), MemoryStore(), organic),
            "stream: slates of 10 and clicks, events/s": measure_rate(MemoryLog(clock=_clock()), MemoryStore(), slates),
            "stream: clicks and views, local drivers, events/s": measure_local(organic[: size.choose(300_000, 30_000)]),
        }


def measure_local(records: Sequence[Record]) -> float:
    """Measure with the embedded log and store in wall time, which includes waiting for the disk."""
    with temporary_folder() as folder:
        log, store = open_log(f"local:{folder}", clock=_clock()), open_store(f"local:{folder}")
        rate = measure_rate(log, store, records, time.perf_counter)
        log.close()
        store.close()
    return rate


def measure_rate(
    log: EventLog, store: UserStore, records: Sequence[Record], clock: Callable[[], float] = time.process_time
) -> float:
    """Events per second from the first micro-batch to the last."""
    create_topics(log)
    for first in range(0, len(records), _APPEND_SIZE):
        log.append("events", 0, records[first : first + _APPEND_SIZE])
    worker = StreamWorker(log, store, Settings())
    worker.step(timeout=0)  # acquires its partition
    begin, done = clock(), 0
    while done < len(records):
        done += worker.step(timeout=0)
    elapsed = clock() - begin
    worker.close()
    return len(records) / elapsed


def _clock() -> ManualClock:
    return ManualClock(traffic.START + DAY_MS)


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
