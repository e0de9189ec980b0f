"""How many bytes an item takes in the learner and in each replica, and a person in the user store."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, Size, run_alone, temporary_folder
from benchmarks.speed.ranking_latency import learnt
from online_models.model import Stack
from stream.clock import ManualClock
from stream.config import Events, Settings
from stream.drivers import open_store
from stream.stores import UserStore
from stream.testing import MemoryLog, MemoryStore
from stream.worker.worker import StreamWorker

ITEMS = 100_000
USERS = 5_000
ACTIONS = 20  # of each generated person
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "ml-100k" / "events.jsonl.gz"
_ROW = ("items.", "tower.")  # counters, catalogue, vectors with their optimizer's state: a row for every item


def measure(size: Size) -> Iterator[Numbers]:
    with temporary_folder() as folder:
        items = size.of(ITEMS, 10_000)
        numbers = of_items(learnt(items, size.of(200_000, 10_000), folder).learning.stack, items)
        numbers |= of_users(traffic.organic(USERS * ACTIONS, USERS, ITEMS), "20 actions each", folder)
        if RECORDED.exists():
            with gzip.open(RECORDED) as lines:
                recorded = [(b"", line) for line in lines]
            numbers |= of_users(recorded, "ml-100k, 106 actions each", folder / "recorded")
    yield numbers


def of_items(stack: Stack, items: int) -> Numbers:
    """Bytes by part of the state; the neighbours' tables have rows only for what was acted on."""
    parts: dict[str, float] = {}
    for name, array in stack.state().items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + array.nbytes
    row = sum(array.nbytes for name, array in stack.state().items() if name.startswith(_ROW))
    numbers = {"memory: bytes per item row, counters, catalogue, vectors": row / items}
    for part, size in sorted(parts.items(), key=lambda one: -one[1]):
        if size / items >= 1:
            numbers[f"memory: of {part}, bytes per item"] = size / items
    return numbers | {"memory: all learnt state, bytes per item": sum(parts.values()) / items}


def of_users(records: Sequence[tuple[bytes, bytes]], name: str, folder: Path) -> Numbers:
    values = stored(records, MemoryStore())
    local = open_store(f"local:{folder}")
    people = len(stored(records, local))
    local.close()
    files = sum(path.stat().st_size for path in folder.rglob("*users.store.db*"))
    return {
        f"memory: bytes per user record, {name}": float(np.mean([len(value) for value in values])),
        f"memory: bytes per user on disk, {name}": files / people,
    }


def stored(records: Sequence[tuple[bytes, bytes]], store: UserStore) -> list[bytes]:
    """What the stream worker makes of these events in the user store."""
    log = MemoryLog(clock=ManualClock(traffic.START + 86_400_000))
    for topic in ("events", "examples", "users", "dead-letter", "quarantine", "alarms"):
        log.create(topic, 1)
    log.append("events", 0, list(records))
    worker = StreamWorker(log, store, Settings(events=Events(max_age=0)))
    worker.step(timeout=0)
    while worker.step(timeout=0):
        pass
    worker.close()
    return [value for _, value in store.scan()]


if __name__ == "__main__":
    run_alone(__doc__, measure, runs=1)
