"""A user record holds a profile, whole."""

from dataclasses import fields, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from stream.records.events import Event
from stream.users.profiles import (
    NOBODY,
    PACES,
    Profile,
    decode_profile,
    describe,
    encode_profile,
    person_fault,
    text_of,
)

NUMBERS = st.integers(-(2**63), 2**63 - 1)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    size, met = draw(st.integers(0, 100)), draw(st.integers(0, 20))
    return Profile(
        name=draw(st.text(st.characters(exclude_categories=["Cs"]))),
        offset=draw(NUMBERS), users_offset=draw(NUMBERS), last_ts=draw(NUMBERS),
        session_start=draw(NUMBERS), session_depth=draw(st.integers(0, 2**31 - 1)),
        counts=draw(nps.arrays(np.uint32, 9)), rates=draw(nps.arrays(np.float32, 9, elements={"allow_nan": False})),
        item=draw(nps.arrays(np.uint64, size)), type=draw(nps.arrays(np.uint8, size)),
        ts=draw(nps.arrays(np.int64, size)), met=draw(nps.arrays(np.uint64, met)),
        text=draw(st.binary()), attributes=draw(st.binary()),
        shown=draw(nps.arrays(np.uint64, draw(st.integers(0, 64)))),
        pace=draw(nps.arrays(np.float32, PACES, elements={"allow_nan": False})),
        paced=draw(NUMBERS), alarmed=draw(NUMBERS), barred=draw(NUMBERS),
        barred_item=draw(st.integers(0, 2**64 - 1)), slates=draw(nps.arrays(np.uint64, draw(st.integers(0, 16)))),
    )  # fmt: skip


@given(profiles())
def test_a_profile_round_trips(profile: Profile) -> None:
    again = decode_profile(encode_profile(profile))
    for field in fields(Profile):
        one, other = getattr(profile, field.name), getattr(again, field.name)

        assert np.array_equal(one, other), field.name


def test_a_record_of_a_newer_schema_is_refused() -> None:
    newer = [99, *msgspec.msgpack.decode(encode_profile(NOBODY))[1:]]

    with pytest.raises(ValueError, match="schema 99; this code reads up to"):
        decode_profile(msgspec.msgpack.encode(newer))


def test_fields_that_a_newer_writer_added_are_passed_over() -> None:
    longer = [*msgspec.msgpack.decode(encode_profile(NOBODY)), b"new"]

    assert decode_profile(msgspec.msgpack.encode(longer)).is_empty


def test_history_is_told_with_the_ids_that_people_gave() -> None:
    events = [Event("e\u20ac", "click", 5, "u", "i 1"), Event("e2", "like", 6, "u", "i:2")]
    profile = replace(
        NOBODY, name="u", item=np.array([1, 2], np.uint64), type=np.array([2, 3], np.uint8),
        ts=np.array([5, 6]), text=b"".join(map(text_of, events)), attributes=b'{"age":7}',
    )  # fmt: skip
    told = describe(profile)

    assert told["history"] == [
        {"item_id": "i 1", "type": "click", "ts": 5, "event_id": "e\u20ac"},
        {"item_id": "i:2", "type": "like", "ts": 6, "event_id": "e2"},
    ]
    assert told["attributes"] == {"age": 7}


def test_an_impression_is_no_line_of_the_history() -> None:
    assert text_of(Event("e", "impression", 1, "u", impression_id="r", items=["a"])) == b""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, None),
        (b"", b"{}"),
        (b"\xff", None),
        (b"a\tb", None),
        (b"u", b""),
        (b"u", b"[]"),
        (b"u", b"{"),
        (b"u", b"7"),
    ],
)
def test_what_is_no_record_of_a_person_has_a_fault(key: bytes | None, value: bytes | None) -> None:
    assert person_fault(key, value)


def test_attributes_and_a_tombstone_are_records_of_a_person() -> None:
    assert person_fault(b"u", b'{"age": 7}') is None
    assert person_fault("ü".encode(), None) is None
