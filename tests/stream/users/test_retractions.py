"""Actions that are taken back leave user state as if they had not happened."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import MINUTE_MS
from stream.ids import hash_id
from stream.logs import Records
from stream.records.batches import EventType
from stream.records.decoding import DecodedBatch, decode_records
from stream.records.events import Event, Limits
from stream.testing import MemoryStore
from stream.users.profiles import N_HISTORY, Profile, decode_profile, describe
from stream.users.table import UserTable

START = 1_767_225_600_000
TYPES = ("view", "click", "like", "dislike", "cart", "purchase")
ACTIONS = st.lists(st.tuples(st.sampled_from(TYPES), st.integers(0, 5)), min_size=1, max_size=12)


def make_actions(actions: list[tuple[str, int]]) -> list[Event]:
    return [
        Event(f"e{n}", event_type, START + n * MINUTE_MS, "u", f"i{item}")  # type: ignore[arg-type]
        for n, (event_type, item) in enumerate(actions)
    ]


def make_retract(event_id: str, number: int = 0) -> Event:
    return Event(f"retract{number}-{event_id}", "retract", START + 2_000 * MINUTE_MS, "u", retracted_id=event_id)


def make_typed(event_type: str, item: str, ts: int = START + 2_000 * MINUTE_MS, number: int = 0) -> Event:
    return Event(f"{event_type}{number}-{item}", event_type, ts, "u", item)  # type: ignore[arg-type]


def decode(events: list[Event], offset: int) -> DecodedBatch:
    values = [msgspec.json.encode(event) for event in events]
    records = Records(0, range(offset, offset + len(values)), [None] * len(values), values, [START * 2] * len(values))
    return decode_records(records, Limits(0, 0))


def apply_events(events: list[Event], batch: int = 1000, rows: int = 4) -> Profile:
    store = MemoryStore()
    table = UserTable(store, rows)
    for first in range(0, len(events), batch):
        decoded = decode(events[first : first + batch], first)
        table.apply(decoded.batch, decoded.events)
        table.flush()
        table.clear_cache()
    return decode_profile(store.get(hash_id("u")) or b"")


def assert_same_user(profile: Profile, expected: Profile) -> None:
    """Compare all but the time of the last event and the order of own items."""
    described, reference = describe(profile), describe(expected)
    for name in ("history", "counts", "attributes"):
        assert described[name] == reference[name], name
    owned, touched = np.split(profile.interacted, [profile.owned_size])
    expected_owned, expected_touched = np.split(expected.interacted, [expected.owned_size])
    assert sorted(owned.tolist()) == sorted(expected_owned.tolist())
    assert sorted(touched.tolist()) == sorted(expected_touched.tolist())
    scale = 0.5 ** ((profile.last_ts - expected.last_ts) / 86_400_000)
    assert profile.rates == pytest.approx(expected.rates * scale, abs=1e-4)
    assert profile.session_depth == expected.session_depth


@given(ACTIONS, st.data(), st.integers(1, 5))
def test_retracted_action_has_not_happened(actions: list[tuple[str, int]], data: st.DataObject, batch: int) -> None:
    events = make_actions(actions)
    index = data.draw(st.integers(0, len(events) - 1))
    retract = make_retract(f"e{index}")
    expected = [event for event in events if event.event_id != f"e{index}"]
    first = data.draw(st.integers(0, len(events)))  # where the retraction arrives: before or after its action
    order = [*events[:first], retract, *events[first:]]

    assert_same_user(apply_events(order, batch), apply_events([*expected, make_retract("never")]))


@pytest.mark.parametrize(
    ("event_type", "retracted"), [("return", "purchase"), ("unlike", "like"), ("remove_from_cart", "cart")]
)
@pytest.mark.parametrize("first", [0, 2, 3])
def test_typed_retraction_takes_back_the_latest_action_of_its_type(event_type: str, retracted: str, first: int) -> None:
    events = make_actions([("click", 1), (retracted, 1), ("click", 2)])
    order = [*events[:first], make_typed(event_type, "i1"), *events[first:]]

    assert_same_user(apply_events(order), apply_events([events[0], events[2], make_retract("never")]))


def test_repeated_retraction_changes_nothing() -> None:
    events = make_actions([("like", 1), ("like", 2)])
    retractions = [make_typed("unlike", "i1"), make_typed("unlike", "i1", number=1), make_retract("e0")]

    assert_same_user(apply_events([*events, *retractions]), apply_events([events[1], make_retract("never")]))


def test_action_after_its_retraction_counts() -> None:
    later = make_typed("like", "i1", START + 3_000 * MINUTE_MS)

    profile = apply_events([make_typed("unlike", "i1"), later])

    assert [entry["type"] for entry in describe(profile)["history"]] == ["like"]


def test_retraction_of_another_users_event_changes_nothing() -> None:
    events = make_actions([("like", 1)])
    stranger = replace_user(make_retract("e0"), "v")

    assert_same_user(apply_events([*events, stranger]), apply_events(events))


def replace_user(event: Event, user_id: str) -> Event:
    return msgspec.structs.replace(event, user_id=user_id)


@pytest.mark.parametrize("n_actions", [N_HISTORY, N_HISTORY + 1, N_HISTORY + 27, N_HISTORY + 28, N_HISTORY + 60])
@pytest.mark.parametrize("batch", [1, 10, 1000])
@pytest.mark.parametrize("retracted", ["newest", "oldest", "unlike"])
def test_history_that_was_written_and_grew_beyond_the_record_takes_retractions(
    n_actions: int, batch: int, retracted: str
) -> None:
    actions = [*make_actions([("view", n % 6) for n in range(n_actions)]), *make_actions([("like", 7)])]
    actions[-1] = msgspec.structs.replace(actions[-1], event_id="liked", ts=START + n_actions * MINUTE_MS)
    table = UserTable(store := MemoryStore(), 4)
    retraction = {"newest": make_retract("liked"), "oldest": make_retract("e0"), "unlike": make_typed("unlike", "i7")}
    for first in range(0, len(actions) + 1, batch):
        decoded = decode([*actions, retraction[retracted]][first : first + batch], first)
        table.apply(decoded.batch, decoded.events)
        table.flush()
    history = describe(decode_profile(store.get(hash_id("u")) or b""))["history"]

    kept = actions if retracted == "oldest" else actions[:-1]
    expected = [event.event_id for event in kept][-N_HISTORY:]
    assert [entry["event_id"] for entry in history] == expected[-len(history) :]
    assert len(history) >= N_HISTORY - 1


@pytest.mark.parametrize("n_actions", [N_HISTORY - 1, N_HISTORY + 20, N_HISTORY + 29])
def test_cache_does_not_change_what_is_taken_back(n_actions: int) -> None:
    events = make_actions([(TYPES[n % len(TYPES)], n % 50) for n in range(n_actions)])
    taken_back = [make_retract(f"e{n_actions - 30}"), make_typed("unlike", "i8"), make_typed("return", "i5")]
    order = [*events, *taken_back, make_typed("click", "i9"), make_retract("e0")]
    records = [apply_events(order, batch) for batch in (1, 7, len(order))]

    assert all(describe(record) == describe(records[0]) for record in records)
    assert all(np.array_equal(record.interacted, records[0].interacted) for record in records)


def test_return_of_a_purchase_older_than_the_history_frees_its_item() -> None:
    events = make_actions([("purchase", 1), *[("click", 2 + n % 3) for n in range(N_HISTORY + 40)]])

    profile = apply_events([*events, make_typed("return", "i1"), make_typed("return", "i1", number=1)])

    assert hash_id("i1") not in profile.interacted.tolist()
    assert profile.counts[EventType.purchase] == 0


def test_cart_that_empties_leaves_an_old_purchase_owned() -> None:
    events = make_actions([("purchase", 1), *[("click", 2) for _ in range(N_HISTORY + 40)], ("cart", 1)])

    profile = apply_events([*events, make_typed("remove_from_cart", "i1")])

    assert hash_id("i1") in profile.interacted[: profile.owned_size].tolist()


def test_user_without_waiting_retractions_has_a_record_of_the_same_size() -> None:
    store, waiting = MemoryStore(), MemoryStore()
    for target, events in (
        (store, make_actions([("like", 1)])),
        (waiting, [*make_actions([("like", 1)]), make_retract("e9")]),
    ):
        table, decoded = UserTable(target, 4), decode(events, 0)
        table.apply(decoded.batch, decoded.events)
        table.flush()

    sizes = [len(next(value for _, value in target.scan())) for target in (store, waiting)]
    assert 16 <= sizes[1] - sizes[0] <= 20
