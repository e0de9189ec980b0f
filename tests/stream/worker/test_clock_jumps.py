"""A clock that was ahead by days and is corrected leaves no traces in later events."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import DAY_MS, MINUTE_MS
from stream.config import EventsSettings, Settings, StreamSettings
from stream.drivers import open_log
from stream.logs import EventLog, Records
from stream.memory.log import MemoryLog
from stream.memory.store import MemoryStore
from stream.records.batches import ExampleBatch, Kind, concat
from stream.records.example_blocks import decode_examples, valid_blocks
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, create_topics
from stream.worker.clock_jumps import split_at_time_falls
from stream.worker.worker import StreamWorker

START = 1_767_225_600_000
HOUR_MS = 60 * MINUTE_MS


class SettableClock:
    def __init__(self, ms: int) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(START)


@pytest.fixture(params=["memory", "local"])
def log(request: pytest.FixtureRequest, clock: SettableClock, tmp_path: Any) -> Iterator[EventLog]:
    log: EventLog = MemoryLog(clock=clock) if request.param == "memory" else open_log(f"local:{tmp_path}", clock=clock)
    create_topics(log)
    yield log
    log.close()


def append_visit(log: EventLog, clock: SettableClock, n: int) -> None:
    """Append an impression and its click, at the time of the clock."""
    event = {"ts": clock.ms, "user_id": "u", "impression_id": f"r{n}"}
    for fields in ({"type": "impression", "items": ["a", "b"]}, {"type": "click", "item_id": "b"}):
        clock.ms += 1_000
        value = msgspec.json.encode(event | {"event_id": f"{fields['type']}{n}", "ts": clock.ms} | fields)
        log.append(EVENTS, 0, [(b"u", value)])


def process(log: EventLog, batch: int, restart: bool) -> ExampleBatch:
    settings = Settings(stream=StreamSettings(batch=batch), events=EventsSettings(max_skew=60))
    store = MemoryStore()
    worker = StreamWorker(log, store, settings)
    worker.step(timeout=0)
    while worker.step(timeout=0):
        if restart:
            worker.close()
            worker = StreamWorker(log, store, settings)
            worker.step(timeout=0)
    worker.close()
    blocks = valid_blocks(log.read(EXAMPLES, 0, 0, 1000))
    return concat([rows for _, rows in map(decode_examples, blocks)])


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("jump_ms", [3 * HOUR_MS, 40 * DAY_MS])
def test_actions_join_their_impressions_after_a_jump(
    log: EventLog, clock: SettableClock, batch: int, restart: bool, jump_ms: int
) -> None:
    append_visit(log, clock, 0)
    clock.ms += jump_ms
    append_visit(log, clock, 1)
    clock.ms -= jump_ms
    for n in range(2, 6):
        append_visit(log, clock, n)
    rows = process(log, batch, restart)

    assert log.end_offset(DEAD_LETTER, 0) == 0, "later events count as too old"
    assert np.count_nonzero(rows.kind == Kind.clicked) == 6
    assert not rows.organic[rows.kind == Kind.action].any()


def test_append_times_never_fall_by_small_corrections(log: EventLog, clock: SettableClock) -> None:
    for step_ms in (0, 5_000, -3_000, -1_000, 20_000, -59_000):
        clock.ms += step_ms
        log.append(EVENTS, 0, [(b"u", b"{}")])
    times = list(log.read(EVENTS, 0, 0, 100).times)

    assert times == sorted(times)


def test_append_times_follow_a_clock_that_was_days_ahead(log: EventLog, clock: SettableClock) -> None:
    for step_ms in (10 * DAY_MS, -10 * DAY_MS, 1_000):
        clock.ms += step_ms
        log.append(EVENTS, 0, [(b"u", b"{}")])

    assert [time - START for time in log.read(EVENTS, 0, 0, 100).times] == [10 * DAY_MS, 0, 1_000]


@given(st.lists(st.integers(0, 20), max_size=30))
def test_parts_are_whole_and_do_not_fall(hours: list[int]) -> None:
    times = [hour * 45 * MINUTE_MS for hour in hours]
    n = len(times)
    records = Records(0, list(range(n)), [None] * n, [b""] * n, times)
    parts = split_at_time_falls(records)

    assert [offset for part in parts for offset in part.offsets] == list(range(n))
    for part in parts:
        assert all(a - b <= HOUR_MS for a, b in zip(part.times, part.times[1:], strict=False))
