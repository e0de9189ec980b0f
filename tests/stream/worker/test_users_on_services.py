"""User state on a real Kafka and Redis equals that on the drivers in memory."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from serving.ingest.event_lookup import find_event
from stream.clock import ManualClock, SystemClock
from stream.config import EventsSettings, Settings
from stream.drivers import open_log, open_store
from stream.ids import hash_id, partition_for_id
from stream.logs import EventLog
from stream.stores import UserStore
from stream.testing import MemoryLog, MemoryStore
from stream.topics import EVENTS, create_topics
from stream.users.profiles import decode_profile, describe
from stream.worker.worker import StreamWorker

PARTITIONS = 3
START = 1_767_225_600_000
Drivers = tuple[EventLog, UserStore]


@pytest.fixture(params=["memory", "kafka and redis"])
def drivers(request: pytest.FixtureRequest) -> Iterator[Drivers]:
    if request.param == "memory":
        log: EventLog = MemoryLog(clock=ManualClock(START + 1000))
        store: UserStore = MemoryStore()
    else:
        prefix = f"{uuid4()}."
        log = open_log(request.getfixturevalue("kafka_url"), prefix, SystemClock())
        store = open_store(request.getfixturevalue("redis_url"), prefix)
    create_topics(log, PARTITIONS)
    with closing(log), closing(store):
        yield log, store


def write_events(log: EventLog, *events: dict[str, Any]) -> None:
    for number, event in enumerate(events):
        fields: dict[str, Any] = {"ts": START + number, "user_id": "u1"} | event
        partition = partition_for_id(fields["user_id"], PARTITIONS)
        log.append(EVENTS, partition, [(fields["user_id"].encode(), msgspec.json.encode(fields))])


def run_worker(log: EventLog, store: UserStore, timeout_s: float = 60.0) -> None:
    """Process all events, with a new worker that first restores its partitions."""
    worker = StreamWorker(log, store, Settings(events=EventsSettings(max_age=0)))
    with closing(worker):
        deadline = time.monotonic() + timeout_s
        while log.end_offsets(EVENTS) != {n: p.next_offset for n, p in worker._partitions.items()}:
            worker.step(0.1)
            assert time.monotonic() < deadline


def read_history(store: UserStore, user_id: str) -> list[str]:
    history = describe(decode_profile(store.get(hash_id(user_id)) or b""))["history"]
    return [entry["event_id"] for entry in history]


def test_retractions_outlive_workers(drivers: Drivers) -> None:
    log, store = drivers
    write_events(
        log,
        {"event_id": "a", "type": "click", "item_id": "a"},
        {"event_id": "b", "type": "like", "item_id": "b"},
        {"event_id": "c", "type": "click", "item_id": "c"},
        {"event_id": "early", "type": "retract", "retracted_id": "later"},
    )
    run_worker(log, store)
    write_events(
        log,
        {"event_id": "take-a", "type": "retract", "retracted_id": "a"},
        {"event_id": "take-b", "type": "unlike", "item_id": "b"},
        {"event_id": "later", "type": "click", "item_id": "d"},
    )
    run_worker(log, store)

    assert read_history(store, "u1") == ["c"]
    found = find_event(log, "b")
    assert found is not None
    assert (found.user_id, found.item_id, found.ts) == ("u1", "b", START + 1)
    assert find_event(log, "never") is None


def test_merge_goes_through_the_log_of_two_partitions(drivers: Drivers) -> None:
    log, store = drivers
    assert partition_for_id("cookie", PARTITIONS) != partition_for_id("account-1", PARTITIONS)
    write_events(
        log,
        {"event_id": "a", "type": "click", "item_id": "a", "user_id": "cookie"},
        {"event_id": "b", "type": "like", "item_id": "b", "user_id": "account-1"},
        {"event_id": "c", "type": "click", "item_id": "c", "user_id": "cookie"},
        {"event_id": "m", "type": "alias", "user_id": "account-1", "anonymous_id": "cookie"},
    )
    run_worker(log, store)

    assert read_history(store, "account-1") == ["a", "b", "c"]
    assert read_history(store, "cookie") == []
