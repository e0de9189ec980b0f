"""What a second and a third `headrace stream` bring: they share the twelve partitions of one topic of a real Kafka.

The workers have their shares, and have worked on the like, before it counts. They are stopped (SIGSTOP) while the
events are appended, so that all begin at the same time with everything before them. Uses what `make services` left
running, else a broker and a Redis of its own.
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
from benchmarks.harness.brokers import Services, busy_seconds, cpu_seconds, memory_bytes, room, services
from benchmarks.harness.runs import Numbers, Size, run_alone, temporary_folder
from stream.clock import SystemClock
from stream.config import Log, Settings
from stream.ids import partition_of
from stream.logs import EventLog, Record
from stream.topics import EVENTS, open_topics
from tests.support.processes import HEADRACE, free_port

PARTITIONS = 12
USERS = ITEMS = 100_000
PLACES, FEATURES = 20, 77  # of a slate, and of each item on it: as many as this code serves
_APPEND = 20_000  # events
_WARM = 3_000  # events
_PATIENCE = 300.0  # seconds; the first start compiles the kernels
_SESSION = 60  # seconds: more than a worker is stopped for


@dataclass(frozen=True, slots=True)
class Case:
    """One load, through one client."""

    name: str
    client: str
    records: Sequence[Record]


def measure(size: Size) -> Iterator[Numbers]:
    clicks = traffic.organic(size.of(500_000, 24_000), USERS, ITEMS)
    slates = traffic.slates(size.of(75_000, 6_000), USERS, ITEMS, places=PLACES, every=1, features=FEATURES)
    cases = [Case("clicks, kafka-python", "kafka-python", clicks), Case("slates, kafka-python", "kafka-python", slates)]
    if not size.quick:
        cases.insert(1, Case("clicks, confluent", "confluent", clicks))
    with services() as found:
        for _ in range(size.runs):
            numbers: Numbers = {}
            for case in cases:
                for workers in (1, 2) if size.quick else (1, 2, 3):
                    title = f"{case.name}, {workers} worker{'s' * (workers > 1)}"
                    print(title, file=sys.stderr)
                    told = shared(found, case, workers)
                    numbers |= {f"{title}: {name}": number for name, number in told.items()}
            yield numbers


def shared(found: Services, case: Case, count: int) -> Numbers:
    """How so many workers fare with all records of a case."""
    with room(found) as prefix, temporary_folder() as folder, ExitStack() as opened:
        # Appended by the client that costs least: it is not what is measured.
        settings = Settings(log=Log(url=f"{found.kafka}?client=confluent", prefix=prefix, partitions=PARTITIONS))
        log = open_topics(settings, SystemClock())
        opened.callback(log.close)
        environ = {
            "HEADRACE_LOG__URL": f"{found.kafka}?client={case.client}&session={_SESSION}",
            "HEADRACE_STORE__URL": found.redis,
            "HEADRACE_LOG__PREFIX": prefix,
            "HEADRACE_STORE__PREFIX": prefix,
            "HEADRACE_LOG__PARTITIONS": str(PARTITIONS),
            "HEADRACE_EVENTS__MAX_AGE": "0",
            "HEADRACE_DATA__FOLDER": str(folder),
        }
        workers = [opened.enter_context(working(folder / f"{n}.log", environ)) for n in range(count)]
        _share(log, workers)
        rehearsed = len(case.records) // 5
        _worked(found, log, workers, case.records[:rehearsed])
        return _worked(found, log, workers, case.records[rehearsed:])


@dataclass(frozen=True, slots=True)
class Spent:
    """What a worker had, and what it did with it."""

    cpu: float  # seconds
    memory: float  # bytes
    events: float
    impressions: float  # that are open

    def __sub__(self, before: "Spent") -> "Spent":
        cpu, memory = self.cpu - before.cpu, self.memory - before.memory
        return Spent(cpu, memory, self.events - before.events, self.impressions - before.impressions)


class Worker:
    """A `headrace stream`."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self._port = port
        self.signal = process.send_signal

    def partitions(self) -> int:
        """How many it has had something of, and still has."""
        return sum(name == "headrace_stream_lag_records" for name, _ in self._metrics())

    def spent(self) -> "Spent":
        totals: dict[str, float] = {}
        for name, value in self._metrics():
            totals[name] = totals.get(name, 0) + value
        events, impressions = totals["headrace_events_total"], totals["headrace_impressions_open"]
        return Spent(cpu_seconds(self._process.pid), memory_bytes(self._process.pid), events, impressions)

    def _metrics(self) -> Iterator[tuple[str, float]]:
        """Names and values, as it tells Prometheus; none before it listens."""
        if self._process.poll() is not None:
            raise RuntimeError(f"headrace stream ended with code {self._process.returncode}")
        try:
            text = httpx.get(f"http://127.0.0.1:{self._port}/metrics", timeout=10).text
        except httpx.ConnectError:
            return
        for family in text_string_to_metric_families(text):
            yield from ((sample.name, sample.value) for sample in family.samples)


@contextmanager
def working(told: Path, environ: dict[str, str]) -> Iterator[Worker]:
    """A worker that runs as long as the block does."""
    port = free_port()
    with told.open("wb") as output:
        process = subprocess.Popen(
            [*HEADRACE, "stream"],
            env={**os.environ, **environ, "HEADRACE_STREAM__METRICS_PORT": str(port)},
            stdout=output,
            stderr=output,
        )
    try:
        yield Worker(process, port)
    except BaseException:
        print(told.read_text()[-2_000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)


def _share(log: EventLog, workers: Sequence[Worker]) -> None:
    """Send a little of each partition, until every worker has its share and has worked on it."""
    deadline = time.monotonic() + _PATIENCE
    held: list[int] = []
    seed = 1_000
    while held != [PARTITIONS // len(workers)] * len(workers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the workers' partitions are {held} after {_PATIENCE:.0f} s")
        _append(log, traffic.organic(_WARM, USERS, ITEMS, seed=(seed := seed + 1)))
        _settle(log, deadline)
        held = [worker.partitions() for worker in workers]


def _worked(found: Services, log: EventLog, workers: Sequence[Worker], records: Sequence[Record]) -> Numbers:
    """From when all begin until nothing is left."""
    before = [worker.spent() for worker in workers]
    for worker in workers:
        worker.signal(signal.SIGSTOP)
    _append(log, records)
    services_before, busy, begin = found.cpu(), busy_seconds(), time.perf_counter()
    for worker in workers:
        worker.signal(signal.SIGCONT)
    _settle(log, time.monotonic() + _PATIENCE)
    took, busy = time.perf_counter() - begin, busy_seconds() - busy
    services_cpu = {name: seconds - services_before[name] for name, seconds in found.cpu().items()}
    spent = [worker.spent() - one for worker, one in zip(workers, before, strict=True)]
    cpu, open_ = sum(one.cpu for one in spent), sum(one.impressions for one in spent)
    if sum(one.events for one in spent) != len(records):
        raise RuntimeError(f"{len(records):,} events were sent and {sum(one.events for one in spent):,.0f} counted")
    return {
        "events/s": len(records) / took,
        "events/s of CPU": len(records) / cpu,
        "cores they had": cpu / took,
        "cores Kafka and Redis had": sum(services_cpu.values()) / took,
        "cores all others had": (busy - cpu - sum(services_cpu.values())) / took,
        **{f"{name}, CPU µs an event": 1e6 * one / len(records) for name, one in services_cpu.items()},
        "events of the busiest, % of a fair share": 100 * max(one.events for one in spent) * len(spent) / len(records),
        **({"memory, KB an open impression": sum(one.memory for one in spent) / open_ / 1e3} if open_ else {}),
    }


def _append(log: EventLog, records: Sequence[Record]) -> None:
    for first in range(0, len(records), _APPEND):
        batches: dict[int, list[Record]] = {}
        for key, value in records[first : first + _APPEND]:
            batches.setdefault(partition_of((key or b"").decode(), PARTITIONS), []).append((key, value))
        log.append_many(EVENTS, batches)


def _settle(log: EventLog, deadline: float) -> None:
    """Wait until the workers have taken and stored all there is."""
    ends = log.ends(EVENTS)
    while any(end > taken for end, taken in _taken(log, ends)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"events are left after {_PATIENCE:.0f} s: (end, taken) {sorted(_taken(log, ends))}")
        time.sleep(0.05)


def _taken(log: EventLog, ends: dict[int, int]) -> list[tuple[int, int]]:
    """End and what was committed, by partition."""
    committed = log.committed(EVENTS, "stream")
    return [(end, committed[number].offset if number in committed else 0) for number, end in ends.items()]


if __name__ == "__main__":
    run_alone(__doc__, measure, runs=1)
