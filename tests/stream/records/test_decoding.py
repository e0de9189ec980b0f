"""Records become columns with every field of their events."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.ids import hash_id
from stream.logs import Records
from stream.records.batches import N_CONTEXT, EventType
from stream.records.decoding import DecodedBatch, context_keys, decode_records
from stream.records.events import Event, Limits
from stream.records.feature_codec import encode_features

LIMITS = Limits(max_age=0, max_skew=300)
APPENDED_AT = 10**14 - 10**8  # ms
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
TIMES = st.integers(0, 10**8 - 1) | st.integers(10**11, 10**14 - 10**9)  # ms, in no other unit
VALUES = st.none() | st.floats(0, 2.0**99, width=32)
ACTIONS = st.builds(
    Event, event_id=NAMES, type=st.sampled_from([kind.name for kind in EventType if kind]), ts=TIMES, user_id=NAMES,
    item_id=NAMES, impression_id=st.none() | NAMES, surface=st.none() | NAMES, value=VALUES,
).filter(lambda action: action.type != "rating" or action.value is not None)  # fmt: skip


@st.composite
def impressions(draw: st.DrawFn) -> Event:
    items = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    propensities = st.lists(st.floats(2.0**-20, 1, width=32), min_size=len(items), max_size=len(items))
    context = draw(st.none() | st.dictionaries(NAMES, NAMES | st.booleans() | st.integers(), max_size=6))
    return Event(
        event_id=draw(NAMES), type="impression", ts=draw(TIMES), user_id=draw(NAMES), impression_id=draw(NAMES),
        items=items, propensities=draw(st.none() | propensities), surface=draw(st.none() | NAMES), context=context,
        model_version=draw(st.none() | NAMES),
        features=draw(st.none() | st.just(encode_features(np.ones((len(items), 2), np.float32)))),
    )  # fmt: skip


def decode_values(*values: bytes | None, now: int = APPENDED_AT) -> DecodedBatch:
    n = len(values)
    return decode_records(Records(0, range(10, 10 + n), [None] * n, values, [now] * n), LIMITS)


@given(st.lists(ACTIONS | impressions(), min_size=1, max_size=6))
def test_every_event_field_is_decoded(events: list[Event]) -> None:
    decoded_batch = decode_values(*[msgspec.json.encode(event) for event in events])
    batch = decoded_batch.batch

    assert list(decoded_batch.events) == events
    assert not decoded_batch.rejected
    assert batch.offset.tolist() == list(range(10, 10 + len(events)))
    assert len(batch.feature_row) == len(batch.lists) == len(batch) == len(events)
    for i, event in enumerate(events):
        run = slice(batch.lists.start[i], batch.lists.start[i + 1])
        items = event.items or [event.item_id or ""]

        assert EventType(batch.type[i]).name == event.type
        assert int(batch.ts[i]) == event.ts
        assert [int(batch.event[i]), int(batch.user[i])] == [hash_id(event.event_id), hash_id(event.user)]
        assert int(batch.item[i]) == (0 if event.type == "impression" else hash_id(event.item_id or ""))
        assert int(batch.impression[i]) == (hash_id(event.impression_id) if event.impression_id else 0)
        assert int(batch.surface[i]) == (hash_id(event.surface) if event.surface else 0)
        assert int(batch.version[i]) == (hash_id(event.model_version) if event.model_version else 0)
        assert batch.context[i].tolist() == context_keys(event.context)
        assert batch.lists.item[run].tolist() == [hash_id(item) for item in items]
        assert is_same_float32(batch.value[i : i + 1].tolist(), [math.nan if event.value is None else event.value])
        assert is_same_float32(batch.lists.propensity[run].tolist(), event.propensities or [math.nan] * len(items))
        assert (batch.feature_row[i] >= 0) == (event.features is not None)


def is_same_float32(values: list[float], expected: list[float]) -> bool:
    return bool(np.array_equal(np.array(values, np.float32), np.array(expected, np.float32), equal_nan=True))


def test_rejected_events_carry_offset_and_index() -> None:
    valid = msgspec.json.encode(Event("e1", "click", 5, "u1", "i1"))
    too_early = msgspec.json.encode(Event("e2", "click", APPENDED_AT + 10**7, "u1", "i1"))
    decoded_batch = decode_values(valid, b"?", b"[" + valid + b",7," + too_early + b"]", None)
    rejected = sorted(
        (event.offset, event.index, event.rejection.reason, event.raw) for event in decoded_batch.rejected
    )

    assert decoded_batch.batch.offset.tolist() == [10, 12]
    assert rejected == [
        (11, 0, "not_json", b"?"),
        (12, 1, "not_object", b"7"),
        (12, 2, "too_early", too_early),
        (13, 0, "not_json", b""),
    ]


def test_event_age_is_measured_at_append_time() -> None:
    event = msgspec.json.encode(Event("e1", "click", 5_000_000, "u1", "i1"))

    assert len(decode_values(event, now=5_000_000).batch) == 1
    assert [rejected_event.rejection.reason for rejected_event in decode_values(event, now=0).rejected] == ["too_early"]


def test_single_item_impression_may_have_a_position() -> None:
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "item_id": "a"}
    lists = decode_values(msgspec.json.encode(event | {"position": 4, "propensity": 0.25})).batch.lists

    assert (lists.position.tolist(), lists.propensity.tolist()) == ([4], [0.25])


def test_prices_come_from_the_context_or_are_nan() -> None:
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "items": ["a", "b"]}
    mixed = decode_values(msgspec.json.encode(event | {"context": {"prices": [2.5, "x"]}})).batch.lists.price
    short = decode_values(msgspec.json.encode(event | {"context": {"prices": [1]}})).batch.lists.price

    assert is_same_float32(mixed.tolist(), [2.5, math.nan])
    assert np.isnan(short).all()


@pytest.mark.parametrize("text", ["", "2", "2:", "x:AAAA", "2:!!", "-1:AAAA", "3:AAAAAAAAAAA=", "2:AADAfwAAgD8="])
def test_invalid_features_are_dropped(text: str) -> None:
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "items": ["a"]}
    batch = decode_values(msgspec.json.encode(event | {"features": text})).batch

    assert batch.feature_row.tolist() == [-1]


def test_served_features_round_trip() -> None:
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    event = {"event_id": "e", "type": "impression", "ts": 1, "user_id": "u", "impression_id": "r", "items": ["a", "b"]}
    batch = decode_values(msgspec.json.encode(event | {"features": encode_features(features)})).batch

    assert batch.features.tolist() == features.tolist()


def test_context_keys_are_sorted_and_limited() -> None:
    context = {"b": "2", "a": "1", "n": 7, "l": ["x"], "t": True}

    assert context_keys(context) == [hash_id("a=1"), hash_id("b=2"), hash_id("t=True"), 0]
    assert len(context_keys({str(n): "x" for n in range(9)})) == N_CONTEXT
