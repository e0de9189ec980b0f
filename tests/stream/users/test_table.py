"""User state is what its events say, however it is cached, and a question says the same as the record."""

from dataclasses import fields

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.ids import key_of, keys_of
from stream.logs import Records
from stream.records.batches import EventType, Questions
from stream.records.decoding import Intake, take_in
from stream.records.events import Event, Limits
from stream.testing import MemoryStore
from stream.users.profiles import (
    HISTORY,
    MET,
    NOBODY,
    SESSION_GAP,
    SHOWN,
    decode_profile,
    describe,
    questions_of,
    text_of,
)
from stream.users.table import UserTable

START = 1_767_225_600_000
STEPS = st.sampled_from([-2_000, 0, 1, 60_000, SESSION_GAP, SESSION_GAP + 1, 86_400_000])
ACTS = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from([kind.name for kind in EventType]), st.integers(0, 9), STEPS),
    min_size=1,
    max_size=40,
)


def event(number: int, user: str, kind: str, item: str, ts: int) -> Event:
    if kind == "impression":
        slate = [f"{item}.{place}" for place in range(1 + 17 * number % 70)]
        return Event(f"e{number}", "impression", ts, user, impression_id=f"r{number}", items=slate)
    return Event(f"e{number}", kind, ts, user, item)  # type: ignore[arg-type]


def events_of(acts: list[tuple[int, str, int, int]]) -> list[Event]:
    ts, events = START, []
    for number, (user, kind, item, step) in enumerate(acts):
        ts += step
        events.append(event(number, f"u{user}", kind, f"i{item}", ts))
    return events


def taken(events: list[Event], offset: int = 0) -> Intake:
    values = [msgspec.json.encode(one) for one in events]
    times = [START * 2] * len(values)
    return take_in(Records(0, range(offset, offset + len(values)), [None] * len(values), values, times), Limits(0, 0))


def applied(table: UserTable, intake: Intake) -> Questions:
    texts, names = [text_of(one) for one in intake.events], [one.user_id for one in intake.events]
    return table.apply(intake.batch, texts, names).questions


def told(store: MemoryStore) -> dict[int, bytes]:
    return dict(store.scan())


@given(ACTS, st.integers(1, 7))
def test_a_question_says_of_a_record_what_the_table_says(acts: list[tuple[int, str, int, int]], batch: int) -> None:
    events, store = events_of(acts), MemoryStore()
    table = UserTable(store, rows=16)
    for first in range(0, len(events), batch):
        intake = taken(events[first : first + batch], first)
        known = [store.get(key_of(one.user_id)) for one in intake.events]
        questions = applied(table, intake)
        for i, one in enumerate(intake.events):
            if one.user_id in [earlier.user_id for earlier in intake.events[:i]]:
                continue
            profile = decode_profile(known[i] or b"") if known[i] else NOBODY
            expected = questions_of([profile], [key_of(one.user_id)], [one.ts], [0], [[]])
            asked = questions.take(np.array([i]))
            for field in fields(Questions):
                assert np.array_equal(getattr(asked, field.name), getattr(expected, field.name)), field.name
        table.flush()


@given(ACTS, st.integers(1, 7))
def test_records_are_the_same_however_many_people_are_cached(acts: list[tuple[int, str, int, int]], batch: int) -> None:
    events = events_of(acts)
    small, large = MemoryStore(), MemoryStore()
    for store, rows, size in ((small, 2, batch), (large, 64, len(events))):
        table = UserTable(store, rows)
        for first in range(0, len(events), size):
            applied(table, taken(events[first : first + size], first))
            table.flush()

    assert told(small) == told(large)


@given(ACTS, st.integers(0, 39))
def test_events_that_were_applied_before_change_nothing(acts: list[tuple[int, str, int, int]], again: int) -> None:
    events, store = events_of(acts), MemoryStore()
    table = UserTable(store, rows=16)
    applied(table, taken(events))
    table.flush()
    before = told(store)
    applied(UserTable(store, rows=16), taken(events[again:], again))
    applied(table, taken(events[again:], again))
    table.flush()

    assert told(store) == before


def test_the_latest_places_shown_are_remembered_and_of_a_long_slate_the_upper_ones() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=2)
    for number in range(40):
        applied(table, taken([event(number, "u0", "impression", f"i{number}", START)], number))
    table.flush()

    shown = [f"i{n}.{place}" for n in range(40) for place in range(1 + 17 * n % 70)[:SHOWN]]
    assert decode_profile(store.get(key_of("u0")) or b"").shown.tolist() == keys_of(shown[-SHOWN:]).tolist()


def test_nothing_reaches_the_store_before_a_flush() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=2)
    for first in range(0, 30, 3):
        applied(table, taken(events_of([(first + n, "click", 1, 1) for n in range(3)]), first))

    assert store.count() == 0
    assert table.flush() == 30
    assert store.count() == 30


def test_a_long_history_keeps_the_last_events() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    events = events_of([(0, "click", n, 1_000) for n in range(300)])
    for first in range(0, 300, 7):
        applied(table, taken(events[first : first + 7], first))
        table.flush()
    profile = decode_profile(store.get(key_of("u0")) or b"")
    history = describe(profile)["history"]

    assert len(history) == HISTORY
    assert [one["event_id"] for one in history] == [f"e{n}" for n in range(200, 300)]
    assert [one["item_id"] for one in history] == [f"i{n}" for n in range(200, 300)]
    assert [one["ts"] for one in history] == [one.ts for one in events[200:]]
    assert profile.counts[EventType.click] == 300


def test_items_met_are_forgotten_oldest_half_first() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    applied(table, taken(events_of([(0, "view", n, 1_000) for n in range(MET)])))
    table.flush()
    full = decode_profile(store.get(key_of("u0")) or b"").met
    applied(table, taken([event(5000, "u0", "view", "i5000", START + 10**7)], offset=5000))
    table.flush()
    halved = decode_profile(store.get(key_of("u0")) or b"").met

    assert full.tolist() == keys_of([f"i{n}" for n in range(MET)]).tolist()
    assert halved.tolist() == keys_of([*(f"i{n}" for n in range(MET // 2, MET)), "i5000"]).tolist()


def test_a_person_who_is_forgotten_is_empty_and_starts_anew() -> None:
    store = MemoryStore()
    table = UserTable(store, rows=16)
    applied(table, taken(events_of([(0, "click", 1, 1), (0, "click", 2, 1)])))
    table.describe(keys_of(["u0"]), ["u0"], [4], [b'{"age":7}'])
    table.describe(keys_of(["u0"]), ["u0"], [5], [None])
    table.describe(keys_of(["u0"]), ["u0"], [4], [b'{"age":7}'])
    table.flush()
    empty = decode_profile(store.get(key_of("u0")) or b"")

    assert empty.is_empty
    assert (empty.item.size, empty.met.size, empty.text) == (0, 0, b"")

    applied(table, taken(events_of([(0, "like", 3, 1)]), offset=2))
    table.flush()
    profile = describe(decode_profile(store.get(key_of("u0")) or b""))

    assert [one["item_id"] for one in profile["history"]] == ["i3"]


def test_events_of_one_record_all_count() -> None:
    values = [msgspec.json.encode([event(n, "u0", "click", f"i{n}", START) for n in range(3)])]
    intake = take_in(Records(0, [7], [None], values, [START]), Limits(0, 0))
    store = MemoryStore()
    table = UserTable(store, rows=16)
    for _ in range(2):
        applied(table, intake)
        table.flush()

    assert decode_profile(store.get(key_of("u0")) or b"").counts.sum() == 3
