"""A store that loses data is noticed and filled again while no event arrives."""

import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event as Signal

import numpy as np
import pytest

from stream.alarms import read_alarms
from stream.ids import hash_id
from stream.logs import OwnershipLost
from stream.memory.store import MemoryStore
from stream.stores import StoreWatermark
from stream.testing import ManualClock, memory_system
from stream.topics import EVENTS
from stream.users.profiles import decode_profile
from stream.worker.store_check import StoreCheck
from stream.worker.store_position import count_missing, read_committed
from tests.conftest import create_or_skip
from tests.stream.worker.test_store_outage import append_click, count_events, run_commands, run_worker, wait_until
from tests.support.events import START, EventGenerator
from tests.support.services import Redis
from tests.support.stream_harness import StreamHarness, make_record, make_settings


class StoreAway(MemoryStore):
    def watermark(self, partition: int) -> str:
        raise ConnectionError("no route to the store")


def make_harness(n_events: int) -> StreamHarness:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [make_record(event_id=f"e{n}", item_id="a") for n in range(n_events)]})
    harness.catch_up()
    return harness


def count_actions(store: MemoryStore) -> int:
    value = store.get(hash_id("u1"))
    return 0 if value is None else int(decode_profile(value).counts.sum())


def lose_everything(harness: StreamHarness, act: Callable[[], None]) -> None:
    act()
    harness.store.clear()


def return_to_older_dump(harness: StreamHarness, act: Callable[[], None]) -> None:
    dump = harness.store.snapshot()
    act()
    harness.store.restore(dump)


@pytest.mark.parametrize("lose", [lose_everything, return_to_older_dump])
def test_lost_users_return_without_an_event(lose: Callable[[StreamHarness, Callable[[], None]], None]) -> None:
    harness = make_harness(3)

    def add_events() -> None:
        harness.write_records({0: [make_record(event_id="late", item_id="b")]})
        harness.catch_up()

    lose(harness, add_events)
    missing = count_missing(read_committed(harness.log), harness.store)
    stop = Signal()
    assert harness.worker
    thread = threading.Thread(target=harness.worker.run, args=(stop,))
    thread.start()
    wait_until(lambda: count_actions(harness.store) == 4)
    stop.set()
    thread.join(30)

    assert missing[0] in (1, 4)
    assert count_missing(read_committed(harness.log), harness.store) == {}


def test_check_waits_for_its_interval_and_for_a_store_that_is_away() -> None:
    harness, now = make_harness(3), [0.0]
    assert harness.worker
    partitions = harness.worker._partitions.values()
    check, away = StoreCheck(harness.store, lambda: now[0]), StoreCheck(StoreAway(), lambda: now[0])
    harness.store.clear()
    check.run_if_due(partitions)
    now[0] = 1.0
    away.run_if_due(partitions)

    with pytest.raises(OwnershipLost, match="partition 0 at '', expected '3 0 1"):
        check.run_if_due(partitions)
    check.run_if_due(partitions)


def test_check_takes_the_partitions_in_turn() -> None:
    harness, now = StreamHarness(make_settings(partitions=3)), [0.0]
    harness.write_records(EventGenerator(seed=1, partitions=3).generate_records(30))
    harness.catch_up()
    assert harness.worker
    partitions, check = harness.worker._partitions.values(), StoreCheck(harness.store, lambda: now[0])
    before = harness.store.watermark(1)
    harness.store.put_many(np.zeros(0, np.uint64), [], [StoreWatermark(1, before, "older")])
    outcomes = []
    for second in range(1, 4):
        now[0] = second
        try:
            check.run_if_due(partitions)
        except OwnershipLost as error:
            outcomes.append(str(error))

    assert len(outcomes) == 1
    assert "partition 1 at 'older'" in outcomes[0]


def test_users_that_retention_keeps_from_returning_raise_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    harness = make_harness(5)
    harness.log.trim(EVENTS, 0, 2)
    harness.store.clear()
    harness.restart()
    harness.catch_up()
    (alarm,) = read_alarms(harness.log)

    assert count_actions(harness.store) == 3
    assert (alarm.detector, alarm.evidence["records"]) == ("users_gap", 2)
    assert "the user store lacks events of partition 0 before offset 2 that the log keeps no longer: 2" in caplog.text


def test_flushed_redis_is_filled_without_an_event(tmp_path: Path) -> None:
    redis = create_or_skip(lambda: Redis(tmp_path / "redis"))
    redis.start()
    log, _, _ = memory_system(clock=ManualClock(START))
    with run_worker(log, redis.url):
        append_click(log, "e1")
        wait_until(lambda: count_events(redis) == 1)
        run_commands(redis, "FLUSHALL")
        assert count_events(redis) == 0
        wait_until(lambda: count_events(redis) == 1)
    redis.stop()
