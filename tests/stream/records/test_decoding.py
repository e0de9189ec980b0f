"""Records become columns, and every field arrives."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.ids import key_of
from stream.logs import Records
from stream.records.batches import N_CONTEXT, EventType
from stream.records.decoding import Intake, context_keys, take_in
from stream.records.events import Event, Limits
from stream.records.feature_codec import encode_features

LIMITS = Limits(max_age=0, max_skew=300)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
TIMES = st.integers(0, 2**50)
VALUES = st.none() | st.floats(0, 2.0**99, width=32)
ACTIONS = st.builds(
    Event, event_id=NAMES, type=st.sampled_from([kind.name for kind in EventType if kind]), ts=TIMES, user_id=NAMES,
    item_id=NAMES, impression_id=st.none() | NAMES, surface=st.none() | NAMES, value=VALUES,
)  # fmt: skip


@st.composite
def impressions(draw: st.DrawFn) -> Event:
    items = draw(st.lists(NAMES, min_size=1, max_size=5))
    chances = st.lists(st.floats(2.0**-20, 1, width=32), min_size=len(items), max_size=len(items))
    context = draw(st.none() | st.dictionaries(NAMES, NAMES | st.booleans() | st.integers(), max_size=6))
    return Event(
        event_id=draw(NAMES), type="impression", ts=draw(TIMES), user_id=draw(NAMES), impression_id=draw(NAMES),
        items=items, propensities=draw(st.none() | chances), surface=draw(st.none() | NAMES), context=context,
        model_version=draw(st.none() | NAMES),
        features=draw(st.none() | st.just(encode_features(np.ones((len(items), 2), np.float32)))),
    )  # fmt: skip


def taken(*values: bytes | None, now: int = 2**52) -> Intake:
    n = len(values)
    return take_in(Records(0, range(10, 10 + n), [None] * n, values, [now] * n), LIMITS)


@given(st.lists(ACTIONS | impressions(), min_size=1, max_size=6))
def test_every_field_arrives(events: list[Event]) -> None:
    intake = taken(*[msgspec.json.encode(event) for event in events])
    batch = intake.batch

    assert list(intake.events) == events
    assert not intake.refused
    assert batch.offset.tolist() == list(range(10, 10 + len(events)))
    assert len(batch.served) == len(batch.lists) == len(batch) == len(events)
    for i, event in enumerate(events):
        run = slice(batch.lists.start[i], batch.lists.start[i + 1])
        items = event.items or [event.item_id or ""]

        assert EventType(batch.type[i]).name == event.type
        assert int(batch.ts[i]) == event.ts
        assert [int(batch.event[i]), int(batch.user[i])] == [key_of(event.event_id), key_of(event.user_id)]
        assert int(batch.item[i]) == (0 if event.type == "impression" else key_of(event.item_id or ""))
        assert int(batch.impression[i]) == (key_of(event.impression_id) if event.impression_id else 0)
        assert int(batch.surface[i]) == (key_of(event.surface) if event.surface else 0)
        assert int(batch.version[i]) == (key_of(event.model_version) if event.model_version else 0)
        assert batch.context[i].tolist() == context_keys(event.context)
        assert batch.lists.item[run].tolist() == [key_of(item) for item in items]
        assert same(batch.value[i : i + 1].tolist(), [math.nan if event.value is None else event.value])
        assert same(batch.lists.propensity[run].tolist(), event.propensities or [math.nan] * len(items))
        assert (batch.served[i] >= 0) == (event.features is not None)


def same(values: list[float], expected: list[float]) -> bool:
    return bool(np.array_equal(np.float32(values), np.float32(expected), equal_nan=True))


def test_refused_events_are_known_by_offset_and_place() -> None:
    sound = msgspec.json.encode(Event("e1", "click", 5, "u1", "i1"))
    late = msgspec.json.encode(Event("e2", "click", 2**52 + 10**7, "u1", "i1"))
    intake = taken(sound, b"?", b"[" + sound + b",7," + late + b"]", None)
    refused = sorted((one.offset, one.index, one.refusal.reason, one.raw) for one in intake.refused)

    assert intake.batch.offset.tolist() == [10, 12]
    assert refused == [
        (11, 0, "not_json", b"?"),
        (12, 1, "not_object", b"7"),
        (12, 2, "too_early", late),
        (13, 0, "not_json", b""),
    ]


def test_age_is_judged_by_when_a_record_was_appended() -> None:
    event = msgspec.json.encode(Event("e1", "click", 5_000_000, "u1", "i1"))

    assert len(taken(event, now=5_000_000).batch) == 1
    assert [one.refusal.reason for one in taken(event, now=0).refused] == ["too_early"]


def test_an_impression_of_one_item_may_say_its_place() -> None:
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "item_id": "a"}
    lists = taken(msgspec.json.encode(event | {"position": 4, "propensity": 0.25})).batch.lists

    assert (lists.position.tolist(), lists.propensity.tolist()) == ([4], [0.25])


def test_prices_come_with_the_context_and_odd_ones_are_unsaid() -> None:
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "items": ["a", "b"]}
    fine = taken(msgspec.json.encode(event | {"context": {"prices": [2.5, "x"]}})).batch.lists.price
    short = taken(msgspec.json.encode(event | {"context": {"prices": [1]}})).batch.lists.price

    assert same(fine.tolist(), [2.5, math.nan])
    assert np.isnan(short).all()


@pytest.mark.parametrize("text", ["", "2", "2:", "x:AAAA", "2:!!", "-1:AAAA", "3:AAAAAAAAAAA=", "2:AADAfwAAgD8="])
def test_features_that_are_none_are_left_out(text: str) -> None:
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "items": ["a"]}
    batch = taken(msgspec.json.encode(event | {"features": text})).batch

    assert batch.served.tolist() == [-1]


def test_features_arrive_as_they_were_served() -> None:
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "items": ["a", "b"]}
    batch = taken(msgspec.json.encode(event | {"features": encode_features(features)})).batch

    assert batch.features.tolist() == features.tolist()


def test_a_context_has_a_few_keys_by_name() -> None:
    context = {"b": "2", "a": "1", "n": 7, "l": ["x"], "t": True}

    assert context_keys(context) == [key_of("a=1"), key_of("b=2"), key_of("t=True"), 0]
    assert len(context_keys({str(n): "x" for n in range(9)})) == N_CONTEXT
