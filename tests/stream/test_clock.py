"""Clocks and watermarks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import DAY_MS, Interval, ManualClock, SystemClock, Watermark


def test_system_clock_returns_epoch_milliseconds() -> None:
    assert 1_700_000_000_000 < SystemClock().now_ms() < 4_000_000_000_000


def test_manual_clock_moves_only_when_advanced() -> None:
    clock = ManualClock(1_000)
    clock.advance(0.25)

    assert (clock.now_ms(), clock.now_ms()) == (1_250, 1_250)


def test_manual_clock_rejects_a_negative_advance() -> None:
    with pytest.raises(ValueError, match=r"got -1"):
        ManualClock().advance(-1)


def test_watermark_is_unknown_before_the_first_event() -> None:
    assert Watermark(lateness=1.0).ts is None


def test_restored_watermark_keeps_its_timestamp() -> None:
    assert Watermark(lateness=1.0, ts=9_000).update(5_000) == 9_000


@pytest.mark.parametrize("lateness", [-0.1, float("nan"), float("inf")])
def test_watermark_rejects_an_invalid_lateness(lateness: float) -> None:
    with pytest.raises(ValueError, match="lateness"):
        Watermark(lateness)


@given(st.lists(st.integers(0, 2**53), min_size=1), st.integers(0, 100_000))
def test_watermark_never_falls_and_trails_the_latest_event(timestamps: list[int], lateness_ms: int) -> None:
    watermark = Watermark(lateness_ms / 1000)
    watermarks = [watermark.update(ts) for ts in timestamps]

    assert watermarks == sorted(watermarks)
    assert watermarks[-1] == max(timestamps) - lateness_ms


@given(st.lists(st.integers(-(10**12), 10**12)), st.integers(0, 5_000), st.none() | st.integers(-(10**12), 10**12))
def test_update_many_equals_single_updates(ts: list[int], lateness: int, start_ts: int | None) -> None:
    single, batched = Watermark(lateness / 1000, start_ts), Watermark(lateness / 1000, start_ts)

    assert batched.update_many(np.array(ts, np.int64)).tolist() == [single.update(event_ts) for event_ts in ts]
    assert batched.ts == single.ts


class SettableClock:
    def __init__(self) -> None:
        self.ms = 10 * DAY_MS

    def now_ms(self) -> int:
        return self.ms


def test_clock_that_is_set_back_restarts_an_interval() -> None:
    clock = SettableClock()
    interval = Interval(60, clock)
    clock.ms -= 9 * DAY_MS
    assert not interval.is_due()
    clock.ms += 60_000

    assert interval.is_due()
    assert not interval.is_due()
