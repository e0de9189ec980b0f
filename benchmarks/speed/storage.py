"""Bytes on the log, on disk and in memory: per event, per item and per process."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, RunSize, run_benchmark, temporary_folder
from benchmarks.speed.http_load import put_catalog, request_recommendations, send_events
from online_models.worker import LearnWorker
from stream.clock import DAY_MS, ManualClock
from stream.config import DataSettings, EventsSettings, GuardSettings, Settings
from stream.drivers import open_log
from stream.logs import EventLog
from stream.testing import MemoryStore
from stream.topics import EVENTS, EXAMPLES, MODEL_UPDATES, create_topics
from stream.worker.worker import StreamWorker
from tests.support.processes import VERBS, RunningSystem

ITEMS = 100_000
USERS = 20_000
EVENTS_PER_STEP = 100  # with 20 steps a second: 2,000 events/s
SLATE_SIZE = 20
N_FEATURES = 77  # that serve logs per item
TOPICS = {EVENTS: "events", EXAMPLES: "examples", MODEL_UPDATES: "model updates"}


def measure(size: RunSize) -> Iterator[Numbers]:
    n_events, items = size.choose(60_000, 3_000), size.choose(ITEMS, 5_000)
    clicks = traffic.generate_organic(n_events, USERS, items, types=["click"])
    slates = traffic.generate_slates(
        n_events // 10, USERS, items, slate_size=SLATE_SIZE, click_every=1, n_features=N_FEATURES
    )
    for _ in range(size.runs):
        with temporary_folder() as folder:
            numbers = measure_log(clicks, "click", folder / "clicks")
            numbers |= measure_log(slates, "slate of 20 or its click", folder / "slates")
            numbers |= measure_processes(folder / "system", items)
        yield numbers


def measure_log(records: Sequence[tuple[bytes, bytes]], name: str, folder: Path) -> Numbers:
    """Bytes per event of keys and values by topic, and of the embedded log's files."""
    clock = ManualClock(traffic.START + DAY_MS)
    settings = Settings(
        data=DataSettings(folder=folder), events=EventsSettings(max_age=0), guard=GuardSettings(enabled=False)
    )
    log = open_log(f"local:{folder / 'log'}", clock=clock)
    create_topics(log)
    stream_worker, learn_worker = StreamWorker(log, MemoryStore(), settings), LearnWorker(log, settings, clock)
    for first in range(0, len(records), EVENTS_PER_STEP):
        log.append(EVENTS, 0, records[first : first + EVENTS_PER_STEP])
        while stream_worker.step(timeout=0):
            pass
        while learn_worker.step(timeout=0):
            pass
    numbers = {f"{name}: {label}, bytes": count_bytes(log, topic) / len(records) for topic, label in TOPICS.items()}
    journal = sum(path.stat().st_size for path in settings.checkpoints.rglob("journal/*"))
    stream_worker.close()
    learn_worker.close()
    log.close()
    files = sum(path.stat().st_size for path in (folder / "log").glob("*.db*"))
    return numbers | {
        f"{name}: files of the embedded log, bytes": files / len(records),
        f"{name}: journal, bytes": journal / len(records),
    }


def count_bytes(log: EventLog, topic: str) -> int:
    """Keys and values of a topic, without the overhead of a driver."""
    offset, total = log.start_offset(topic, 0), 0
    while offset < log.end_offset(topic, 0):
        records = log.read(topic, 0, offset, 10_000)
        total += sum(len(part) for column in (records.keys, records.values) for part in column if part)
        offset = records.offsets[-1] + 1
    return total


def measure_processes(folder: Path, items: int) -> Numbers:
    """Resident memory of each process without items, and per item of a catalog."""
    with RunningSystem(folder, HEADRACE_LEARN__CHECKPOINT_EVERY="5") as running:
        run_traffic(running, seed=0)
        empty = {verb: read_memory(running, verb) for verb in VERBS}
        put_catalog(running, items)
        run_traffic(running, seed=1)
        running.wait_until(lambda: running.metric("learn", "headrace_learn_item_table_rows") >= items)
        written = running.metric("learn", "headrace_checkpoints_total")
        running.wait_until(lambda: running.metric("learn", "headrace_checkpoints_total") > written)
        full = {verb: read_memory(running, verb) for verb in VERBS}
    numbers = {f"{verb}: memory without items, MB": empty[verb] / 1e6 for verb in VERBS}
    numbers |= {f"{verb}: memory per item, bytes": (full[verb] - empty[verb]) / items for verb in ("learn", "serve")}
    newest = max(folder.glob("checkpoints/*-*/manifest.json"), key=lambda path: path.stat().st_mtime).parent
    checkpoint = sum(path.stat().st_size for path in newest.iterdir())
    return numbers | {"checkpoint: files per item, bytes": checkpoint / items}


def run_traffic(running: RunningSystem, seed: int) -> None:
    """Send some events and a request, so that each process has loaded its kernels."""
    send_events(running, 1_000, seed, items=100)
    running.settle()
    request_recommendations(running.port, rate=10, seconds=1, seed=seed)
    running.settle()


def read_memory(running: RunningSystem, verb: str) -> float:
    """Resident bytes of a process, from its metrics."""
    if verb != "serve":
        return running.metric(verb, "process_resident_memory_bytes")
    text = httpx.get(f"http://127.0.0.1:{running.port}/metrics").text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("process_resident_memory"))


if __name__ == "__main__":
    run_benchmark(__doc__, measure, runs=1)
