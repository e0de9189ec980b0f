"""User state depends on events only; a query from a record equals one from the table."""

from dataclasses import fields

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import DAY_MS, MINUTE_MS
from stream.ids import hash_id, hash_ids
from stream.logs import Records
from stream.records.batches import EventType, Queries
from stream.records.decoding import DecodedBatch, decode_records
from stream.records.events import Event, Limits
from stream.records.fields import field_key
from stream.testing import MemoryStore
from stream.users.profiles import (
    EMPTY_PROFILE,
    MAX_INTERACTED,
    N_HISTORY,
    N_INTERACTED,
    N_SHOWN,
    SESSION_GAP_MS,
    decode_profile,
    describe,
    queries_from_profiles,
)
from stream.users.rate_limits import FORGOTTEN
from stream.users.table import UserTable

START = 1_767_225_600_000
STEPS = st.sampled_from([-2_000, 0, 1, MINUTE_MS, SESSION_GAP_MS, SESSION_GAP_MS + 1, DAY_MS])
ACTIONS = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from([kind.name for kind in EventType]), st.integers(0, 9), STEPS),
    min_size=1,
    max_size=40,
)


def make_event(number: int, user: str, event_type: str, item: str, ts: int) -> Event:
    if event_type == "impression":
        slate = [f"{item}.{position}" for position in range(1 + 17 * number % 70)]
        return Event(f"e{number}", "impression", ts, user, impression_id=f"r{number}", items=slate)
    return Event(f"e{number}", event_type, ts, user, item)  # type: ignore[arg-type]


def make_events(actions: list[tuple[int, str, int, int]]) -> list[Event]:
    ts, events = START, []
    for number, (user, event_type, item, step) in enumerate(actions):
        ts += step
        events.append(make_event(number, f"u{user}", event_type, f"i{item}", ts))
    return events


def decode_events(events: list[Event], offset: int = 0) -> DecodedBatch:
    values = [msgspec.json.encode(event) for event in events]
    times = [START * 2] * len(values)
    return decode_records(
        Records(0, range(offset, offset + len(values)), [None] * len(values), values, times), Limits(0, 0)
    )


def apply_batch(table: UserTable, decoded_batch: DecodedBatch) -> Queries:
    return table.apply(decoded_batch.batch, decoded_batch.events).queries


def read_records(store: MemoryStore) -> dict[int, bytes]:
    return dict(store.scan())


@given(ACTIONS, st.integers(1, 7))
def test_query_from_a_record_equals_query_from_the_table(actions: list[tuple[int, str, int, int]], batch: int) -> None:
    events, store = make_events(actions), MemoryStore()
    table = UserTable(store, rows=16)
    for first in range(0, len(events), batch):
        decoded_batch = decode_events(events[first : first + batch], first)
        records = [store.get(hash_id(event.user)) for event in decoded_batch.events]
        queries = apply_batch(table, decoded_batch)
        for i, event in enumerate(decoded_batch.events):
            if event.user_id in [earlier.user_id for earlier in decoded_batch.events[:i]]:
                continue
            profile = decode_profile(records[i] or b"") if records[i] else EMPTY_PROFILE
            expected = queries_from_profiles([profile], [hash_id(event.user)], [event.ts], [0], [[]])
            query = queries.take(np.array([i]))
            for field in fields(Queries):
                assert np.array_equal(getattr(query, field.name), getattr(expected, field.name)), field.name
        table.flush()


@given(ACTIONS, st.integers(1, 7))
def test_cache_size_does_not_change_the_records(actions: list[tuple[int, str, int, int]], batch: int) -> None:
    events = make_events(actions)
    small, large = MemoryStore(), MemoryStore()
    for store, rows, size in ((small, 2, batch), (large, 64, len(events))):
        table = UserTable(store, rows)
        for first in range(0, len(events), size):
            apply_batch(table, decode_events(events[first : first + size], first))
            table.flush()

    assert read_records(small) == read_records(large)


@given(ACTIONS, st.integers(0, 39))
def test_reapplied_events_change_nothing(actions: list[tuple[int, str, int, int]], first: int) -> None:
    events, store = make_events(actions), MemoryStore()
    table = UserTable(store, rows=16)
    apply_batch(table, decode_events(events))
    table.flush()
    before = read_records(store)
    apply_batch(UserTable(store, rows=16), decode_events(events[first:], first))
    apply_batch(table, decode_events(events[first:], first))
    table.flush()

    assert read_records(store) == before


def test_table_keeps_the_latest_shown_items_and_slate_tops() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=2)
    for number in range(40):
        apply_batch(table, decode_events([make_event(number, "u0", "impression", f"i{number}", START)], number))
    table.flush()

    item_ids = [f"i{n}.{position}" for n in range(40) for position in range(1 + 17 * n % 70)[:N_SHOWN]]
    assert decode_profile(store.get(hash_id("u0")) or b"").shown.tolist() == hash_ids(item_ids[-N_SHOWN:]).tolist()


def test_store_is_unchanged_before_a_flush() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=2)
    for first in range(0, 30, 3):
        apply_batch(table, decode_events(make_events([(first + n, "click", 1, 1) for n in range(3)]), first))

    assert store.count() == 0
    assert table.flush() == 30
    assert store.count() == 30


def test_long_history_keeps_the_last_events() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    events = make_events([(0, "click", n, 1_000) for n in range(300)])
    for first in range(0, 300, 7):
        apply_batch(table, decode_events(events[first : first + 7], first))
        table.flush()
    profile = decode_profile(store.get(hash_id("u0")) or b"")
    history = describe(profile)["history"]

    assert len(history) == N_HISTORY
    assert [entry["event_id"] for entry in history] == [f"e{n}" for n in range(200, 300)]
    assert [entry["item_id"] for entry in history] == [f"i{n}" for n in range(200, 300)]
    assert [entry["ts"] for entry in history] == [entry.ts for entry in events[200:]]
    assert profile.counts[EventType.click] == 300


def read_items(store: MemoryStore) -> list[int]:
    keys: list[int] = decode_profile(store.get(hash_id("u0")) or b"").interacted.tolist()
    return keys


@pytest.mark.parametrize("part", [5000, 700, 61])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_items_of_a_heavy_user_are_kept(part: int, is_restarted: bool) -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    events = make_events([(0, "purchase", n % 2000, 1_000) for n in range(2500)])
    for first in range(0, len(events), part):
        apply_batch(table, decode_events(events[first : first + part], first))
        table.flush()
        if is_restarted:
            table = UserTable(store, rows=16)

    assert read_items(store) == hash_ids([f"i{n}" for n in range(2000)]).tolist()


@pytest.mark.parametrize("part", [9000, 1000])
def test_full_list_of_items_drops_the_oldest_half_of_the_others(part: int) -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    bought = [(0, "purchase", n, 10) for n in range(0, 3000, 3)]
    events = make_events([*bought, *((0, "view", n, 10) for n in range(N_INTERACTED * 2 + 700))])
    for first in range(0, len(events), part):
        apply_batch(table, decode_events(events[first : first + part], first))
        table.flush()
    items = read_items(store)
    viewed = [f"i{n}" for n in range(N_INTERACTED * 2 + 700) if n % 3 or n >= 3000]

    assert items[:1000] == hash_ids([f"i{n}" for n in range(0, 3000, 3)]).tolist()
    assert N_INTERACTED // 2 <= len(items) - 1000 <= N_INTERACTED
    assert items[1000:] == hash_ids(viewed[-(len(items) - 1000) :]).tolist()


def test_full_list_of_owned_items_drops_its_oldest_half() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    limit = MAX_INTERACTED - N_INTERACTED
    apply_batch(table, decode_events(make_events([(0, "purchase", n, 10) for n in range(limit + 1)])))
    table.flush()

    assert read_items(store) == hash_ids([f"i{n}" for n in range(limit // 2, limit + 1)]).tolist()


def test_item_that_is_bought_moves_to_the_owned_ones() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    actions = [("view", 1), ("view", 2), ("purchase", 3), ("cart", 2), ("view", 3), ("click", 4)]
    apply_batch(table, decode_events(make_events([(0, kind, item, 10) for kind, item in actions])))
    table.flush()

    assert read_items(store) == hash_ids(["i3", "i2", "i1", "i4"]).tolist()
    assert decode_profile(store.get(hash_id("u0")) or b"").owned_size == 2


def test_heavy_users_do_not_share_items() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=2)
    apply_batch(table, decode_events(make_events([(n % 3, "like", n, 10) for n in range(4500)])))
    table.flush()
    for user in range(3):
        items = decode_profile(store.get(hash_id(f"u{user}")) or b"").interacted

        assert items.tolist() == hash_ids([f"i{n}" for n in range(user, 4500, 3)]).tolist()


def set_attributes(table: UserTable, offset: int, value: bytes | None, ts: int = START) -> None:
    table.set_attributes(hash_ids(["u0"]), ["u0"], Records(0, [offset], [b"u0"], [value], [ts]))


def test_forgotten_user_is_empty_and_starts_over() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    apply_batch(table, decode_events(make_events([(0, "click", 1, 1), (0, "click", 2, 1)])))
    set_attributes(table, 4, b'{"age":7}')
    set_attributes(table, 5, None)
    set_attributes(table, 4, b'{"age":7}')
    table.flush()
    empty = decode_profile(store.get(hash_id("u0")) or b"")

    assert empty.is_empty
    assert (empty.item.size, empty.interacted.size, empty.text) == (0, 0, b"")

    apply_batch(table, decode_events(make_events([(0, "like", 3, 1)]), offset=2))
    table.flush()
    profile = describe(decode_profile(store.get(hash_id("u0")) or b""))

    assert [entry["item_id"] for entry in profile["history"]] == ["i3"]


FORGOTTEN_AT = START + MINUTE_MS


@pytest.mark.parametrize(
    ("event", "is_late"),
    [
        (Event("e", "click", FORGOTTEN_AT, "u0", "i1"), True),
        (Event("e", "click", FORGOTTEN_AT + 1, "u0", "i1"), False),
        (Event("e", "impression", FORGOTTEN_AT, "u0", impression_id="r2", items=["i1"]), True),
        (Event("e", "click", FORGOTTEN_AT + 1, "u0", "i1", impression_id="r1"), True),
        (Event("e", "click", FORGOTTEN_AT + DAY_MS + 1, "u0", "i1", impression_id="r1"), False),
        (Event("e", "click", FORGOTTEN_AT + 1, "u1", "i1", impression_id="r1"), False),
    ],
    ids=["before", "after", "impression", "of a slate from before", "a day later", "another user"],
)
def test_late_event_does_not_bring_a_forgotten_user_back(event: Event, is_late: bool) -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    slate = Event("e1", "impression", START, "u0", impression_id="r1", items=["i1"])
    apply_batch(table, decode_events([slate, make_event(2, "u0", "click", "i1", START)]))
    set_attributes(table, 0, None, FORGOTTEN_AT)
    table.flush()
    table.clear_cache()
    late = decode_events([event], offset=2)
    result = table.apply(late.batch, late.events)
    table.flush()
    value = store.get(hash_id(event.user)) or b""

    assert decode_profile(value).is_empty == is_late
    assert (event.user.encode() in value) != is_late
    assert result.violation.tolist() == [FORGOTTEN if is_late else 0]


def test_click_on_a_slate_from_after_the_deletion_counts() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    set_attributes(table, 0, None, FORGOTTEN_AT)
    slate = Event("e1", "impression", FORGOTTEN_AT + 1, "u0", impression_id="r1", items=["i1"])
    click = Event("e2", "click", FORGOTTEN_AT + 2, "u0", "i1", impression_id="r1")
    decoded = decode_events([slate, click])
    result = table.apply(decoded.batch, decoded.events)

    assert result.violation.tolist() == [0, 0]


def test_all_events_of_one_record_count() -> None:
    values = [msgspec.json.encode([make_event(n, "u0", "click", f"i{n}", START) for n in range(3)])]
    decoded_batch = decode_records(Records(0, [7], [None], values, [START]), Limits(0, 0))
    store = MemoryStore()
    table = UserTable(store, rows=16)
    for _ in range(2):
        apply_batch(table, decoded_batch)
        table.flush()

    assert decode_profile(store.get(hash_id("u0")) or b"").counts.sum() == 3


def test_queries_have_the_keys_of_attributes_from_table_store_and_profile() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    set_attributes(table, 4, b'{"age":7,"interests":["tea"]}')
    event = make_event(0, "u0", "click", "i1", START)
    first = apply_batch(table, decode_events([event]))
    table.flush()
    table.clear_cache()
    second = apply_batch(table, decode_events([event], offset=1))
    profile = decode_profile(store.get(hash_id("u0")) or b"")
    served = queries_from_profiles([profile], [hash_id("u0")], [START], [0], [[]])

    assert first.user_keys[0, 0] == field_key("interests", "tea")
    assert first.user_keys.tolist() == second.user_keys.tolist() == served.user_keys.tolist()
