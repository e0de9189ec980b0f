"""The clock and the watermark."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import ManualClock, SystemClock, Watermark


def test_the_system_clock_tells_epoch_milliseconds() -> None:
    assert 1_700_000_000_000 < SystemClock().now_ms() < 4_000_000_000_000


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(1_000)
    clock.advance(0.25)

    assert (clock.now_ms(), clock.now_ms()) == (1_250, 1_250)


def test_a_manual_clock_refuses_to_go_back() -> None:
    with pytest.raises(ValueError, match=r"got -1"):
        ManualClock().advance(-1)


def test_a_watermark_is_unknown_before_the_first_event() -> None:
    assert Watermark(lateness=1.0).ts is None


def test_a_restored_watermark_goes_on_where_it_was() -> None:
    assert Watermark(lateness=1.0, ts=9_000).see(5_000) == 9_000


@pytest.mark.parametrize("lateness", [-0.1, float("nan"), float("inf")])
def test_a_watermark_refuses_a_lateness_that_is_no_duration(lateness: float) -> None:
    with pytest.raises(ValueError, match="lateness"):
        Watermark(lateness)


@given(st.lists(st.integers(0, 2**53), min_size=1), st.integers(0, 100_000))
def test_a_watermark_never_falls_and_trails_the_latest_event_by_the_lateness(seen: list[int], lateness_ms: int) -> None:
    watermark = Watermark(lateness_ms / 1000)
    reached = [watermark.see(ts) for ts in seen]

    assert reached == sorted(reached)
    assert reached[-1] == max(seen) - lateness_ms


@given(st.lists(st.integers(-(10**12), 10**12)), st.integers(0, 5_000), st.none() | st.integers(-(10**12), 10**12))
def test_events_seen_at_once_move_the_watermark_as_one_by_one(ts: list[int], lateness: int, begun: int | None) -> None:
    one, many = Watermark(lateness / 1000, begun), Watermark(lateness / 1000, begun)

    assert many.see_all(np.array(ts, np.int64)).tolist() == [one.see(at) for at in ts]
    assert many.ts == one.ts
