"""Actions find the impression that earned them, and what was shown and left is told when its window closes."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import Watermark
from stream.ids import key_of
from stream.logs import Records
from stream.records.batches import EventType, ExampleBatch, Kind, concat
from stream.records.decoding import take_in
from stream.records.events import Event, Limits
from stream.testing import MemoryStore
from stream.users.profiles import text_of
from stream.users.table import UserTable
from stream.worker.joiner import Joiner
from stream.worker.partition import examples_of

SECOND = 1_000
WINDOW, LATENESS = 30.0, 5.0


def shown(impression: str, ts: float, *items: str, user: str = "u") -> Event:
    return Event(f"{impression}@{ts}", "impression", int(ts * SECOND), user, impression_id=impression, items=[*items])


def act(impression: str | None, ts: float, item: str, kind: str = "click", user: str = "u") -> Event:
    name = f"{impression}-{item}-{kind}-{ts}"
    return Event(name, kind, int(ts * SECOND), user, item, impression_id=impression)  # type: ignore[arg-type]


class Joining:
    """One partition's joiner with what stands before it."""

    def __init__(self, closed_at_once: int = 256) -> None:
        self.joiner, self.watermark = Joiner(WINDOW, closed_at_once), Watermark(LATENESS)
        self.users = UserTable(MemoryStore(), 64)
        self.next = 0

    def join(self, *events: Event) -> ExampleBatch:
        n = len(events)
        values = [msgspec.json.encode(event) for event in events]
        offsets = range(self.next, self.next + n)
        batch = take_in(Records(0, offsets, [None] * n, values, [2**52] * n), Limits(0, 0)).batch
        self.next += n
        questions = self.users.apply(
            batch, [text_of(event) for event in events], [event.user_id for event in events]
        ).questions
        return self.joiner.join(examples_of(batch, questions), [self.watermark.see(ts) for ts in batch.ts.tolist()])


def told(batch: ExampleBatch) -> list[tuple[str, list[float]]]:
    """Each row's kind and labels."""
    runs = zip(batch.lists.start[:-1].tolist(), batch.lists.start[1:].tolist(), strict=True)
    labels = [batch.lists.label[first:end].tolist() for first, end in runs]
    return [(Kind(kind).name, label) for kind, label in zip(batch.kind.tolist(), labels, strict=True)]


def test_a_click_makes_a_list_at_once_and_the_window_makes_the_final_one() -> None:
    joining = Joining()
    batch = joining.join(shown("r", 0, "a", "b"), act("r", 4, "b"), act(None, 36, "z"))

    assert told(batch) == [
        ("shown", [0, 0]),
        ("action", [0]),
        ("clicked", [0, 1]),
        ("action", [0]),
        ("closed", [0, 1]),
    ]
    assert batch.organic.tolist() == [False, False, False, True, False]
    assert batch.origin.tolist() == [-1, -1, 0, -1, 0]
    assert batch.offset.tolist() == [0, 1, 1, 2, 2]
    assert batch.ts.tolist() == [0, 4_000, 4_000, 36_000, 36_000]
    assert [EventType(kind).name for kind in batch.type] == ["impression", "click", "click", "click", "impression"]


def test_a_second_action_on_another_item_adds_its_label() -> None:
    batch = Joining().join(
        shown("r", 0, "a", "b"), act("r", 1, "b"), act("r", 2, "a", "cart"), act("r", 3, "a", "like")
    )

    assert told(batch)[2::2] == [("clicked", [0, 1]), ("clicked", [1, 1])]
    assert len(batch) == 6


@pytest.mark.parametrize("kind", ["dislike", "dwell", "rating"])
def test_an_action_that_is_no_praise_labels_nothing_and_is_not_organic(kind: str) -> None:
    batch = Joining().join(shown("r", 0, "a", "b"), act("r", 1, "b", kind))

    assert told(batch) == [("shown", [0, 0]), ("action", [0])]
    assert not batch.organic.any()


@pytest.mark.parametrize(
    "action",
    [act("other", 1, "a"), act("r", 1, "z"), act("r", 1, "a", user="forger"), act(None, 1, "a")],
    ids=["unknown impression", "item not shown", "another person", "no impression"],
)
def test_an_action_that_answers_no_open_impression_is_organic(action: Event) -> None:
    batch = Joining().join(shown("r", 0, "a", "b"), action)

    assert told(batch) == [("shown", [0, 0]), ("action", [0])]
    assert batch.organic.tolist() == [False, True]


def test_an_action_behind_the_window_is_organic() -> None:
    joining = Joining()
    batch = joining.join(shown("r", 0, "a"), act(None, 35, "z"), act("r", 20, "a"))

    assert told(batch)[2] == ("closed", [0])
    assert batch.organic.tolist() == [False, True, False, True]


def test_a_late_action_still_counts_while_the_watermark_waits() -> None:
    batch = Joining().join(shown("r", 0, "a"), act(None, 34, "z"), act("r", 20, "a"))

    assert told(batch)[-1] == ("clicked", [1])


def test_an_impression_that_comes_again_while_open_is_passed_over() -> None:
    joining = Joining()
    joining.join(shown("r", 0, "a"), shown("r", 1, "b"), act("r", 2, "b"))

    assert len(joining.joiner) == 1


def test_an_impression_older_than_its_window_is_closed_at_once() -> None:
    batch = Joining().join(act(None, 100, "z"), shown("r", 1, "a"), act("r", 2, "a"))

    assert told(batch) == [("action", [0]), ("shown", [0]), ("closed", [0]), ("action", [0])]


def test_a_question_is_that_of_the_moment_of_showing() -> None:
    batch = Joining().join(act(None, 0, "x"), shown("r", 1, "a"), act(None, 2, "y"), act("r", 3, "a"))
    clicked = batch.questions.take(np.array([len(batch) - 1]))

    assert clicked.history_item.tolist() == [key_of("x")]
    assert clicked.ts.tolist() == [1_000]


EVENTS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from("abc"), st.sampled_from("uv"), st.integers(-4, 12)),
    max_size=25,
)


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    now, events = 100.0, []
    for is_shown, number, item, user, step in draw(EVENTS):
        now += step
        name = f"r{number}"
        events.append(shown(name, now, "a", item, user=user) if is_shown else act(name, now, item, user=user))
    return events


@given(streams(), st.lists(st.integers(0, 25), max_size=6), st.sampled_from([1, 2, 256]))
def test_the_same_events_make_the_same_rows_wherever_micro_batches_end(
    events: list[Event], cuts: Sequence[int], closed_at_once: int
) -> None:
    if not events:
        return
    borders = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    joining = Joining(closed_at_once)
    pieces = concat([joining.join(*events[a:b]) for a, b in pairwise(borders)])
    whole = Joining(closed_at_once).join(*events)

    assert told(pieces) == told(whole)
    for name in ("kind", "event", "type", "ts", "organic", "impression", "offset", "origin"):
        assert getattr(pieces, name).tolist() == getattr(whole, name).tolist(), name


@given(streams(), st.integers(0, 25))
def test_a_joiner_that_was_restored_goes_on_as_if_nothing_had_happened(events: list[Event], cut: int) -> None:
    before, after = events[:cut], events[cut:]
    if not (before and after):
        return
    calm, again = Joining(), Joining()
    published = [calm.join(event) for event in before]
    again.join(*before)
    again.joiner = Joiner(WINDOW)
    for block in published:
        again.joiner.restore(block)

    assert len(again.joiner) == len(calm.joiner)
    assert told(again.join(*after)) == told(calm.join(*after))


def test_one_event_closes_a_few_and_those_behind_it_the_rest() -> None:
    joining = Joining(closed_at_once=3)
    night = joining.join(*(shown(f"r{n}", n / 10, "a", "b") for n in range(10)))
    morning = joining.join(*(act(None, 1_000 + n, "c") for n in range(5)))
    closed = morning.kind == Kind.closed

    assert (night.kind == Kind.shown).all()
    assert np.bincount(morning.offset[closed] - 10, minlength=5).tolist() == [3, 3, 3, 1, 0]
    assert morning.impression[closed].tolist() == [key_of(f"r{n}") for n in range(10)]


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_is_a_positive_number_of_seconds(window: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        Joiner(window)
