"""Duplicates are recognized among at least the last n events."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.deduplication import Deduplicator, StaleDuplicateDetector


def make_keys(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.uint64)


@given(st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=20))
def test_deduplicator_equals_a_set_within_its_capacity(batches: list[list[int]]) -> None:
    deduplicator, known = Deduplicator(1000), set[int]()
    for batch in batches:
        results = deduplicator.check_and_add(make_keys(batch)).tolist()
        for key, is_new in zip(batch, results, strict=True):
            assert is_new == (key not in known)

            known.add(key)


def test_oldest_events_are_evicted() -> None:
    deduplicator = Deduplicator(10)
    for key in range(1, 41):
        deduplicator.check_and_add(make_keys([key]))

    assert deduplicator.contains(make_keys(list(range(31, 41)))).all()
    assert not deduplicator.contains(make_keys(list(range(1, 21)))).any()


def test_contains_adds_nothing() -> None:
    deduplicator = Deduplicator(10)

    assert not deduplicator.contains(make_keys([7])).any()
    assert deduplicator.check_and_add(make_keys([7])).all()


GAP = 500  # ms between events
LIVE = np.arange(6_000) * GAP


def run_detector(segments: list[tuple[np.ndarray, bool]], batch: int = 64) -> list[float]:
    """Feed segments of (event times, are new) in micro-batches; returns the reported shares."""
    ts = np.concatenate([ts for ts, _ in segments])
    is_new = np.concatenate([np.full(ts.size, new) for ts, new in segments])
    detector = StaleDuplicateDetector()
    shares = (
        detector.update(ts[start : start + batch], is_new[start : start + batch]) for start in range(0, ts.size, batch)
    )
    return [share for share in shares if share]


def duplicate_segments(ts: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    return [part for segment in np.array_split(ts, 60) for part in ((segment, True), (segment, False))]


@pytest.mark.parametrize("batch", [1, 64, 4096])
def test_replayed_segment_is_reported_once(batch: int) -> None:
    [share] = run_detector([(LIVE, True), (LIVE[:1_000], False), (LIVE[-1] + LIVE[:2_000], True)], batch)

    assert share > 0.2


def test_interleaved_replay_is_reported_within_1000_events() -> None:
    mixed = np.stack([LIVE[-1] + LIVE[:500], LIVE[:500]], axis=1).ravel()
    detector = StaleDuplicateDetector()
    detector.update(LIVE, np.ones(LIVE.size, np.bool_))
    shares = [detector.update(mixed[start : start + 10], np.arange(10) % 2 == 0) for start in range(0, mixed.size, 10)]

    assert sum(share > 0 for share in shares) == 1


@pytest.mark.parametrize(
    "segments",
    [
        lambda: [(LIVE, True)],
        lambda: duplicate_segments(LIVE),
        lambda: [(LIVE[3_000:], True), (LIVE[:3_000], True)],
        lambda: [(LIVE[:900], True), (LIVE[:900], False)],
    ],
    ids=["no duplicates", "immediate retries", "old events after new ones", "small file sent twice"],
)
def test_normal_traffic_is_not_reported(segments: Callable[[], list[tuple[np.ndarray, bool]]]) -> None:
    assert run_detector(segments()) == []
