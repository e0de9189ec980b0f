"""Duplicates are recognized among at least the last n events."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.deduplication import Deduplicator, StaleDuplicateDetector


def make_keys(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.uint64)


def make_contents(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.int32)


EVENTS = st.lists(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2)), max_size=12), max_size=20)


@given(EVENTS)
def test_deduplicator_equals_a_dictionary_within_its_capacity(batches: list[list[tuple[int, int]]]) -> None:
    deduplicator, known = Deduplicator(1000), dict[int, int]()
    for batch in batches:
        keys, contents = make_keys([key for key, _ in batch]), make_contents([content for _, content in batch])
        preview = deduplicator.check(keys, contents)
        is_new, is_conflict = deduplicator.check_and_add(keys, contents)
        assert [column.tolist() for column in preview] == [is_new.tolist(), is_conflict.tolist()]
        for (key, content), new, conflict in zip(batch, is_new.tolist(), is_conflict.tolist(), strict=True):
            assert new == (key not in known)
            assert conflict == (known.setdefault(key, content) != content)


def test_oldest_events_are_evicted() -> None:
    deduplicator = Deduplicator(10)
    for key in range(1, 41):
        deduplicator.check_and_add(make_keys([key]), make_contents([1]))
    keys = make_keys(list(range(1, 41)))
    is_new = deduplicator.check(keys, np.ones(40, np.int32)).is_new

    assert not is_new[30:].any()
    assert is_new[:20].all()


def test_repeat_keeps_the_first_content() -> None:
    deduplicator = Deduplicator(2)
    deduplicator.check_and_add(make_keys([7, 8]), make_contents([1, 1]))  # fills a generation
    for content, conflict in [(2, True), (1, False), (2, True)]:
        check = deduplicator.check_and_add(make_keys([7]), make_contents([content]))

        assert (check.is_new.tolist(), check.is_conflict.tolist()) == ([False], [conflict])


def test_check_adds_nothing() -> None:
    deduplicator = Deduplicator(10)

    assert deduplicator.check(make_keys([7]), make_contents([1])).is_new.all()
    assert deduplicator.check_and_add(make_keys([7]), make_contents([1])).is_new.all()


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
