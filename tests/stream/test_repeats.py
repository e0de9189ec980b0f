"""What is sent once more long after is told of; what is sent twice at once, loaded or late is not."""

from collections.abc import Callable

import numpy as np
import pytest

from stream.repeats import Repeats

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
