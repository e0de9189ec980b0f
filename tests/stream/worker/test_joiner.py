"""Actions are joined to impressions; unclicked items become negatives at the end."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import Watermark
from stream.ids import hash_id
from stream.logs import Records
from stream.records.batches import EventType, ExampleBatch, Kind, concat
from stream.records.decoding import decode_records
from stream.records.events import Event, Limits
from stream.testing import MemoryStore
from stream.users.table import UserTable
from stream.worker.joiner import Joiner
from stream.worker.partition import build_examples

SECOND = 1_000
WINDOW, LATENESS = 30.0, 5.0


def make_impression(impression: str, ts: float, *items: str, user: str = "u") -> Event:
    return Event(f"{impression}@{ts}", "impression", int(ts * SECOND), user, impression_id=impression, items=[*items])


def make_action(
    impression: str | None,
    ts: float,
    item: str,
    action_type: str = "click",
    user: str = "u",
    stars: float = 3.0,
) -> Event:
    event_id = f"{impression}-{item}-{action_type}-{ts}"
    value = stars if action_type == "rating" else None
    return Event(event_id, action_type, int(ts * SECOND), user, item, impression_id=impression, value=value)  # type: ignore[arg-type]


class JoinerHarness:
    """Joiner of one partition with the steps before it."""

    def __init__(self, max_closed_per_event: int = 256) -> None:
        self.joiner, self.watermark = Joiner(WINDOW, max_closed_per_event), Watermark(LATENESS)
        self.users = UserTable(MemoryStore(), 64)
        self.next_offset = 0

    def join(self, *events: Event) -> ExampleBatch:
        n = len(events)
        values = [msgspec.json.encode(event) for event in events]
        offsets = range(self.next_offset, self.next_offset + n)
        decoded = decode_records(Records(0, offsets, [None] * n, values, [2**52] * n), Limits(0, 0))
        self.next_offset += n
        examples = build_examples(decoded.batch, self.users.apply(decoded.batch, decoded.events).queries)
        return self.joiner.join(examples, [self.watermark.update(ts) for ts in decoded.batch.ts.tolist()])


def describe_rows(batch: ExampleBatch) -> list[tuple[str, list[float]]]:
    """Kind and labels of each row."""
    runs = zip(batch.lists.start[:-1].tolist(), batch.lists.start[1:].tolist(), strict=True)
    labels = [batch.lists.label[first:end].tolist() for first, end in runs]
    return [(Kind(kind).name, label) for kind, label in zip(batch.kind.tolist(), labels, strict=True)]


def test_click_emits_a_list_at_once_and_the_window_a_final_one() -> None:
    harness = JoinerHarness()
    batch = harness.join(make_impression("r", 0, "a", "b"), make_action("r", 4, "b"), make_action(None, 36, "z"))

    assert describe_rows(batch) == [
        ("shown", [0, 0]),
        ("action", [0]),
        ("clicked", [0, 1]),
        ("action", [0]),
        ("closed", [0, 1]),
    ]
    assert batch.organic.tolist() == [False, False, False, True, False]
    assert batch.impression_offset.tolist() == [-1, -1, 0, -1, 0]
    assert batch.offset.tolist() == [0, 1, 1, 2, 2]
    assert batch.ts.tolist() == [0, 4_000, 4_000, 36_000, 36_000]
    assert [EventType(kind).name for kind in batch.type] == ["impression", "click", "click", "click", "impression"]


def test_second_action_on_another_item_adds_its_label() -> None:
    batch = JoinerHarness().join(
        make_impression("r", 0, "a", "b"),
        make_action("r", 1, "b"),
        make_action("r", 2, "a", "cart"),
        make_action("r", 3, "a", "like"),
    )

    assert describe_rows(batch)[2::2] == [("clicked", [0, 1]), ("clicked", [1, 1])]
    assert len(batch) == 6


@pytest.mark.parametrize("kind", ["dislike", "dwell", "rating"])
def test_non_positive_action_adds_no_label_and_is_not_organic(kind: str) -> None:
    batch = JoinerHarness().join(make_impression("r", 0, "a", "b"), make_action("r", 1, "b", kind))

    assert describe_rows(batch) == [("shown", [0, 0]), ("action", [0])]
    assert not batch.organic.any()


@pytest.mark.parametrize(
    "dislike",
    [make_action("r", 2, "b", "dislike"), make_action("r", 2, "b", "rating", stars=1.0)],
    ids=["dislike", "one star"],
)
def test_dislike_after_a_click_sets_the_final_label_to_zero(dislike: Event) -> None:
    batch = JoinerHarness().join(
        make_impression("r", 0, "a", "b"),
        make_action("r", 1, "a"),
        make_action("r", 1.5, "b"),
        dislike,
        make_action(None, 36, "z"),
    )

    assert describe_rows(batch)[-1] == ("closed", [1, 0])
    assert not batch.organic[batch.offset == 3].any()


def test_click_after_a_dislike_sets_the_label_again() -> None:
    batch = JoinerHarness().join(
        make_impression("r", 0, "a", "b"),
        make_action("r", 1, "b"),
        make_action("r", 2, "b", "dislike"),
        make_action("r", 3, "b", "purchase"),
        make_action(None, 36, "z"),
    )

    assert describe_rows(batch)[-1] == ("closed", [0, 1])


@pytest.mark.parametrize(
    "dislike",
    [make_action("r", 2, "b", "dislike", user="forger"), make_action(None, 2, "b", "dislike")],
    ids=["another user", "no impression"],
)
def test_dislike_outside_the_slate_leaves_its_labels(dislike: Event) -> None:
    batch = JoinerHarness().join(
        make_impression("r", 0, "a", "b"), make_action("r", 1, "b"), dislike, make_action(None, 36, "z")
    )

    assert describe_rows(batch)[-1] == ("closed", [0, 1])


@pytest.mark.parametrize(
    "action",
    [
        make_action("other", 1, "a"),
        make_action("r", 1, "z"),
        make_action("r", 1, "a", user="forger"),
        make_action(None, 1, "a"),
    ],
    ids=["unknown impression", "item not shown", "another user", "no impression"],
)
def test_action_without_an_open_impression_is_organic(action: Event) -> None:
    batch = JoinerHarness().join(make_impression("r", 0, "a", "b"), action)

    assert describe_rows(batch) == [("shown", [0, 0]), ("action", [0])]
    assert batch.organic.tolist() == [False, True]


def test_action_after_the_window_is_organic() -> None:
    harness = JoinerHarness()
    batch = harness.join(make_impression("r", 0, "a"), make_action(None, 35, "z"), make_action("r", 20, "a"))

    assert describe_rows(batch)[2] == ("closed", [0])
    assert batch.organic.tolist() == [False, True, False, True]


def test_late_action_counts_until_the_watermark_passes() -> None:
    batch = JoinerHarness().join(make_impression("r", 0, "a"), make_action(None, 34, "z"), make_action("r", 20, "a"))

    assert describe_rows(batch)[-1] == ("clicked", [1])


def test_duplicate_of_an_open_impression_is_skipped() -> None:
    harness = JoinerHarness()
    harness.join(make_impression("r", 0, "a"), make_impression("r", 1, "b"), make_action("r", 2, "b"))

    assert len(harness.joiner) == 1


def test_impression_older_than_its_window_closes_at_once() -> None:
    batch = JoinerHarness().join(make_action(None, 100, "z"), make_impression("r", 1, "a"), make_action("r", 2, "a"))

    assert describe_rows(batch) == [("action", [0]), ("shown", [0]), ("closed", [0]), ("action", [0])]


def test_query_is_the_state_when_the_impression_was_shown() -> None:
    batch = JoinerHarness().join(
        make_action(None, 0, "x"), make_impression("r", 1, "a"), make_action(None, 2, "y"), make_action("r", 3, "a")
    )
    query = batch.queries.take(np.array([len(batch) - 1]))

    assert query.history_item.tolist() == [hash_id("x")]
    assert query.ts.tolist() == [1_000]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["impression", "click", "dislike"]),
        st.integers(0, 5),
        st.sampled_from("abc"),
        st.sampled_from("uv"),
        st.integers(-4, 12),
    ),
    max_size=25,
)


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    now, events = 100.0, []
    for event_type, number, item, user, step in draw(EVENTS):
        now += step
        impression_id = f"r{number}"
        events.append(
            make_impression(impression_id, now, "a", item, user=user)
            if event_type == "impression"
            else make_action(impression_id, now, item, event_type, user=user)
        )
    return events


@given(streams(), st.lists(st.integers(0, 25), max_size=6), st.sampled_from([1, 2, 256]))
def test_micro_batch_boundaries_do_not_change_the_rows(
    events: list[Event], cuts: Sequence[int], max_closed_per_event: int
) -> None:
    if not events:
        return
    boundaries = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    harness = JoinerHarness(max_closed_per_event)
    pieces = concat([harness.join(*events[a:b]) for a, b in pairwise(boundaries)])
    whole = JoinerHarness(max_closed_per_event).join(*events)

    assert describe_rows(pieces) == describe_rows(whole)
    for name in ("kind", "event", "type", "ts", "organic", "impression", "offset", "impression_offset"):
        assert getattr(pieces, name).tolist() == getattr(whole, name).tolist(), name


@given(streams(), st.integers(0, 25))
def test_restored_joiner_continues_with_the_same_rows(events: list[Event], cut: int) -> None:
    before, after = events[:cut], events[cut:]
    if not (before and after):
        return
    baseline, restored = JoinerHarness(), JoinerHarness()
    blocks = [baseline.join(event) for event in before]
    restored.join(*before)
    restored.joiner = Joiner(WINDOW)
    for block in blocks:
        restored.joiner.restore(block)

    assert len(restored.joiner) == len(baseline.joiner)
    assert describe_rows(restored.join(*after)) == describe_rows(baseline.join(*after))


def test_restored_joiner_keeps_a_cleared_label() -> None:
    before, restored = JoinerHarness(), JoinerHarness()
    events = make_impression("r", 0, "a", "b"), make_action("r", 1, "b"), make_action("r", 2, "b", "dislike")
    rows = before.join(*events)
    restored.join(*events)
    restored.joiner = Joiner(WINDOW)
    restored.joiner.restore(rows)

    assert describe_rows(restored.join(make_action(None, 36, "z")))[-1] == ("closed", [0, 0])


def test_each_event_closes_a_limited_number_of_impressions() -> None:
    harness = JoinerHarness(max_closed_per_event=3)
    shown_rows = harness.join(*(make_impression(f"r{n}", n / 10, "a", "b") for n in range(10)))
    later_rows = harness.join(*(make_action(None, 1_000 + n, "c") for n in range(5)))
    is_closed = later_rows.kind == Kind.closed

    assert (shown_rows.kind == Kind.shown).all()
    assert np.bincount(later_rows.offset[is_closed] - 10, minlength=5).tolist() == [3, 3, 3, 1, 0]
    assert later_rows.impression[is_closed].tolist() == [hash_id(f"r{n}") for n in range(10)]


@pytest.mark.parametrize("window", [0, -1])
def test_window_must_be_positive(window: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        Joiner(window)
