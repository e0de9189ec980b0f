"""Memory per item in the learner and each replica, and per user in the user store."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, RunSize, run_benchmark, temporary_folder
from benchmarks.speed.ranking_latency import build_loop
from online_models.model import RecommenderModel
from stream.clock import DAY_MS, ManualClock
from stream.config import EventsSettings, Settings
from stream.drivers import open_store
from stream.stores import UserStore
from stream.testing import MemoryLog, MemoryStore
from stream.topics import create_topics
from stream.worker.worker import StreamWorker

ITEMS = 100_000
USERS = 5_000
ACTIONS = 20  # per generated user
RECORDED_EVENTS = Path(__file__).parents[3] / "shared" / "data" / "ml-100k" / "events.jsonl.gz"
_ROW_PARTS = ("items.", "two_tower.")  # one row per item: counters, catalog, vectors with their optimizer state


def measure(size: RunSize) -> Iterator[Numbers]:
    with temporary_folder() as folder:
        items = size.choose(ITEMS, 10_000)
        numbers = measure_items(build_loop(items, size.choose(200_000, 10_000), folder).learn_worker.model, items)
        numbers |= measure_users(traffic.generate_organic(USERS * ACTIONS, USERS, ITEMS), "20 actions", folder)
        if RECORDED_EVENTS.exists():
            with gzip.open(RECORDED_EVENTS) as lines:
                records = [(b"", line) for line in lines]
            numbers |= measure_users(records, "106 actions (ml-100k)", folder / "recorded")
    yield numbers


def measure_items(model: RecommenderModel, items: int) -> Numbers:
    """Bytes by part of the state; the neighbor tables have rows only for items with actions."""
    parts: dict[str, float] = {}
    for name, array in model.state().items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + array.nbytes
    row_bytes = sum(array.nbytes for name, array in model.state().items() if name.startswith(_ROW_PARTS))
    numbers = {"memory: counters, catalog and vectors, bytes per item": row_bytes / items}
    for part, size in sorted(parts.items(), key=lambda entry: -entry[1]):
        if size / items >= 1:
            numbers[f"memory: {part}, bytes per item"] = size / items
    return numbers | {"memory: all model state, bytes per item": sum(parts.values()) / items}


def measure_users(records: Sequence[tuple[bytes, bytes]], name: str, folder: Path) -> Numbers:
    values = build_user_records(records, MemoryStore())
    local_store = open_store(f"local:{folder}")
    n_users = len(build_user_records(records, local_store))
    local_store.close()
    files = sum(path.stat().st_size for path in folder.rglob("*users.store.db*"))
    return {
        f"memory: user record with {name}, bytes": float(np.mean([len(value) for value in values])),
        f"memory: user on disk with {name}, bytes": files / n_users,
    }


def build_user_records(records: Sequence[tuple[bytes, bytes]], store: UserStore) -> list[bytes]:
    """Run the stream worker on the events and return the stored user records."""
    log = MemoryLog(clock=ManualClock(traffic.START + DAY_MS))
    create_topics(log)
    log.append("events", 0, list(records))
    worker = StreamWorker(log, store, Settings(events=EventsSettings(max_age=0)))
    worker.step(timeout=0)
    while worker.step(timeout=0):
        pass
    worker.close()
    return [value for _, value in store.scan()]


if __name__ == "__main__":
    run_benchmark(__doc__, measure, runs=1)
