"""A repeat is recognised among at least the last n events."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.seen import SeenEvents


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
