"""A repeat is recognised among at least the last n events."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.deduplication import Repeats, SeenEvents


def keys(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.uint64)


@given(st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=20))
def test_events_within_the_last_n_are_known_as_a_set_would_know_them(batches: list[list[int]]) -> None:
    seen, known = SeenEvents(1000), set[int]()
    for batch in batches:
        fresh = seen.first_seen(keys(batch)).tolist()
        for key, is_fresh in zip(batch, fresh, strict=True):
            assert is_fresh == (key not in known)

            known.add(key)


def test_the_oldest_events_are_forgotten_in_time() -> None:
    seen = SeenEvents(10)
    for key in range(1, 41):
        seen.first_seen(keys([key]))

    assert seen.knows(keys(list(range(31, 41)))).all()
    assert not seen.knows(keys(list(range(1, 21)))).any()


def test_asking_changes_nothing() -> None:
    seen = SeenEvents(10)

    assert not seen.knows(keys([7])).any()
    assert seen.first_seen(keys([7])).all()


GAP = 500  # ms between events
LIVE = np.arange(6_000) * GAP


def told(stretches: list[tuple[np.ndarray, bool]], batch: int = 64) -> list[float]:
    """Stretches of event times, and whether they are new, in micro-batches; what is said of each that is."""
    ts = np.concatenate([ts for ts, _ in stretches])
    fresh = np.concatenate([np.full(ts.size, new) for ts, new in stretches])
    repeats = Repeats()
    shares = (repeats.see(ts[at : at + batch], fresh[at : at + batch]) for at in range(0, ts.size, batch))
    return [share for share in shares if share]


def twice(ts: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    return [part for one in np.array_split(ts, 60) for part in ((one, True), (one, False))]


@pytest.mark.parametrize("batch", [1, 64, 4096])
def test_a_stretch_that_is_sent_once_more_is_told_of_once(batch: int) -> None:
    [share] = told([(LIVE, True), (LIVE[:1_000], False), (LIVE[-1] + LIVE[:2_000], True)], batch)

    assert share > 0.2


def test_it_is_told_within_a_thousand_events_when_it_comes_among_others() -> None:
    mixed = np.stack([LIVE[-1] + LIVE[:500], LIVE[:500]], axis=1).ravel()
    repeats = Repeats()
    repeats.see(LIVE, np.ones(LIVE.size, np.bool_))
    shares = [repeats.see(mixed[at : at + 10], np.arange(10) % 2 == 0) for at in range(0, mixed.size, 10)]

    assert sum(share > 0 for share in shares) == 1


@pytest.mark.parametrize(
    "stretches",
    [
        lambda: [(LIVE, True)],
        lambda: twice(LIVE),
        lambda: [(LIVE[3_000:], True), (LIVE[:3_000], True)],
        lambda: [(LIVE[:900], True), (LIVE[:900], False)],
    ],
    ids=["nothing twice", "each at once again", "the old behind the new", "a small file again"],
)
def test_nothing_is_told_of_what_happens_every_day(stretches: Callable[[], list[tuple[np.ndarray, bool]]]) -> None:
    assert told(stretches()) == []
