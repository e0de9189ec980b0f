"""Scaling of one to three `headrace stream` workers on a Kafka topic of twelve partitions.

Measurement starts after the workers own their partitions and are warm. SIGSTOP pauses them while the events are
appended, so that all start at the same time with a full backlog. Uses the services of `make services`, or starts a
broker and a Redis.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.harness import traffic
from benchmarks.harness.brokers import (
    Services,
    isolated_prefix,
    open_services,
    read_busy_seconds,
    read_cpu_seconds,
    read_memory_bytes,
)
from benchmarks.harness.runs import Numbers, RunSize, run_benchmark, temporary_folder
from stream.clock import SystemClock
from stream.config import LogSettings, Settings
from stream.ids import partition_for_id
from stream.logs import EventLog, Record
from stream.topics import EVENTS, open_topics
from tests.support.processes import HEADRACE, free_port

PARTITIONS = 12
USERS = ITEMS = 100_000
SLATE_SIZE, FEATURES = 20, 77  # items per slate, and features per item as served live
_APPEND_SIZE = 20_000  # events
_WARMUP_EVENTS = 3_000
_TIMEOUT_S = 300.0  # the first start compiles the kernels
_SESSION_TIMEOUT_S = 60  # longer than a worker is paused


@dataclass(frozen=True, slots=True)
class LoadCase:
    """One load through one Kafka client."""

    name: str
    client: str
    records: Sequence[Record]


def measure(size: RunSize) -> Iterator[Numbers]:
    clicks = traffic.generate_organic(size.choose(500_000, 24_000), USERS, ITEMS)
    slates = traffic.generate_slates(
        size.choose(75_000, 6_000), USERS, ITEMS, slate_size=SLATE_SIZE, click_every=1, n_features=FEATURES
    )
    cases = [
        LoadCase("clicks, kafka-python", "kafka-python", clicks),
        LoadCase("slates, kafka-python", "kafka-python", slates),
    ]
    if not size.quick:
        cases.insert(1, LoadCase("clicks, confluent", "confluent", clicks))
    with open_services() as brokers:
        for _ in range(size.runs):
            numbers: Numbers = {}
            for case in cases:
                for workers in (1, 2) if size.quick else (1, 2, 3):
                    title = f"{case.name}, {workers} worker{'s' * (workers > 1)}"
                    print(title, file=sys.stderr)
                    results = measure_workers(brokers, case, workers)
                    numbers |= {f"{title}: {name}": number for name, number in results.items()}
            yield numbers


def measure_workers(brokers: Services, case: LoadCase, count: int) -> Numbers:
    """Measure `count` workers on all records of a case."""
    with isolated_prefix(brokers) as prefix, temporary_folder() as folder, ExitStack() as exit_stack:
        # Appending is not measured: the fastest client does it.
        settings = Settings(
            log=LogSettings(url=f"{brokers.kafka}?client=confluent", prefix=prefix, partitions=PARTITIONS)
        )
        log = open_topics(settings, SystemClock())
        exit_stack.callback(log.close)
        environ = {
            "HEADRACE_LOG__URL": f"{brokers.kafka}?client={case.client}&session={_SESSION_TIMEOUT_S}",
            "HEADRACE_STORE__URL": brokers.redis,
            "HEADRACE_LOG__PREFIX": prefix,
            "HEADRACE_STORE__PREFIX": prefix,
            "HEADRACE_LOG__PARTITIONS": str(PARTITIONS),
            "HEADRACE_EVENTS__MAX_AGE": "0",
            "HEADRACE_DATA__FOLDER": str(folder),
        }
        workers = [exit_stack.enter_context(run_worker(folder / f"{n}.log", environ)) for n in range(count)]
        _balance_partitions(log, workers)
        n_warmup = len(case.records) // 5
        _measure_run(brokers, log, workers, case.records[:n_warmup])
        return _measure_run(brokers, log, workers, case.records[n_warmup:])


@dataclass(frozen=True, slots=True)
class WorkerUsage:
    """Resources that a worker used, and its events."""

    cpu_seconds: float
    memory_bytes: float
    events: float
    impressions: float  # open impressions

    def __sub__(self, before: "WorkerUsage") -> "WorkerUsage":
        cpu, memory = self.cpu_seconds - before.cpu_seconds, self.memory_bytes - before.memory_bytes
        return WorkerUsage(cpu, memory, self.events - before.events, self.impressions - before.impressions)


class StreamProcess:
    """A `headrace stream` process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self._port = port
        self.signal = process.send_signal

    def partitions(self) -> int:
        """Number of partitions that it owns and has read from."""
        return sum(name == "headrace_stream_lag_records" for name, _ in self._metrics())

    def usage(self) -> "WorkerUsage":
        totals: dict[str, float] = {}
        for name, value in self._metrics():
            totals[name] = totals.get(name, 0) + value
        events, impressions = totals["headrace_events_total"], totals["headrace_impressions_open"]
        return WorkerUsage(
            read_cpu_seconds(self._process.pid), read_memory_bytes(self._process.pid), events, impressions
        )

    def _metrics(self) -> Iterator[tuple[str, float]]:
        """Names and values of its metrics; none before it listens."""
        if self._process.poll() is not None:
            raise RuntimeError(f"headrace stream ended with code {self._process.returncode}")
        try:
            text = httpx.get(f"http://127.0.0.1:{self._port}/metrics", timeout=10).text
        except httpx.ConnectError:
            return
        for family in text_string_to_metric_families(text):
            yield from ((sample.name, sample.value) for sample in family.samples)


@contextmanager
def run_worker(log_path: Path, environ: dict[str, str]) -> Iterator[StreamProcess]:
    """Run a worker for the block."""
    port = free_port()
    with log_path.open("wb") as output:
        process = subprocess.Popen(
            [*HEADRACE, "stream"],
            env={**os.environ, **environ, "HEADRACE_STREAM__METRICS_PORT": str(port)},
            stdout=output,
            stderr=output,
        )
    try:
        yield StreamProcess(process, port)
    except BaseException:
        print(log_path.read_text()[-2_000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)


def _balance_partitions(log: EventLog, workers: Sequence[StreamProcess]) -> None:
    """Send events to all partitions until each worker owns an equal share and has read from it."""
    deadline = time.monotonic() + _TIMEOUT_S
    partition_counts: list[int] = []
    seed = 1_000
    while partition_counts != [PARTITIONS // len(workers)] * len(workers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the workers' partitions are {partition_counts} after {_TIMEOUT_S:.0f} s")
        _append(log, traffic.generate_organic(_WARMUP_EVENTS, USERS, ITEMS, seed=(seed := seed + 1)))
        _wait_until_idle(log, deadline)
        partition_counts = [worker.partitions() for worker in workers]


def _measure_run(
    brokers: Services, log: EventLog, workers: Sequence[StreamProcess], records: Sequence[Record]
) -> Numbers:
    """Measure from the start of all workers until the backlog is empty."""
    before = [worker.usage() for worker in workers]
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    _append(log, records)
    services_before, busy, begin = brokers.cpu_usage(), read_busy_seconds(), time.perf_counter()
    for worker in workers:
        worker.signal(signal.SIGCONT)
    _wait_until_idle(log, time.monotonic() + _TIMEOUT_S)
    elapsed, busy = time.perf_counter() - begin, read_busy_seconds() - busy
    services_cpu = {name: seconds - services_before[name] for name, seconds in brokers.cpu_usage().items()}
    usages = [worker.usage() - usage for worker, usage in zip(workers, before, strict=True)]
    cpu, open_impressions = sum(usage.cpu_seconds for usage in usages), sum(usage.impressions for usage in usages)
    if sum(usage.events for usage in usages) != len(records):
        raise RuntimeError(
            f"{len(records):,} events were sent but {sum(usage.events for usage in usages):,.0f} were counted"
        )
    largest_share = max(usage.events for usage in usages) * len(usages) / len(records)
    numbers = {
        "events/s": len(records) / elapsed,
        "events/CPU s": len(records) / cpu,
        "worker cores": cpu / elapsed,
        "Kafka and Redis cores": sum(services_cpu.values()) / elapsed,
        "other cores": (busy - cpu - sum(services_cpu.values())) / elapsed,
        **{f"{name}, CPU µs per event": 1e6 * usage / len(records) for name, usage in services_cpu.items()},
        "events of the busiest worker, % of an equal share": 100 * largest_share,
    }
    if open_impressions:
        memory_bytes = sum(usage.memory_bytes for usage in usages)
        numbers["memory, KB per open impression"] = memory_bytes / open_impressions / 1e3
    return numbers


def _append(log: EventLog, records: Sequence[Record]) -> None:
    for first in range(0, len(records), _APPEND_SIZE):
        batches: dict[int, list[Record]] = {}
        for key, value in records[first : first + _APPEND_SIZE]:
            batches.setdefault(partition_for_id((key or b"").decode(), PARTITIONS), []).append((key, value))
        log.append_many(EVENTS, batches)


def _wait_until_idle(log: EventLog, deadline: float) -> None:
    """Wait until the workers have committed all events."""
    ends = log.end_offsets(EVENTS)
    while any(end > committed for end, committed in _committed_offsets(log, ends)):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"backlog after {_TIMEOUT_S:.0f} s: (end, committed) {sorted(_committed_offsets(log, ends))}"
            )
        time.sleep(0.05)


def _committed_offsets(log: EventLog, ends: dict[int, int]) -> list[tuple[int, int]]:
    """(end offset, committed offset) of each partition."""
    committed = log.committed(EVENTS, "stream")
    return [(end, committed[partition].offset if partition in committed else 0) for partition, end in ends.items()]


if __name__ == "__main__":
    run_benchmark(__doc__, measure, runs=1)
