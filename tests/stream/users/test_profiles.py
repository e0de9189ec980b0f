"""User records contain the complete profile."""

from dataclasses import fields, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from stream.records.events import Event
from stream.users.profiles import (
    EMPTY_PROFILE,
    N_MINUTE_COUNTS,
    Profile,
    decode_profile,
    describe,
    history_line,
    validate_user_record,
)
from tests.support.profiles import encode_profile

NUMBERS = st.integers(-(2**63), 2**63 - 1)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    size, n_interacted = draw(st.integers(0, 100)), draw(st.integers(0, 20))
    return Profile(
        user_id=draw(st.text(st.characters(exclude_categories=["Cs"]))),
        offset=draw(NUMBERS), users_offset=draw(NUMBERS), last_ts=draw(NUMBERS),
        session_start=draw(NUMBERS), session_depth=draw(st.integers(0, 2**31 - 1)),
        counts=draw(nps.arrays(np.uint32, 9)), rates=draw(nps.arrays(np.float32, 9, elements={"allow_nan": False})),
        item=draw(nps.arrays(np.uint64, size)), type=draw(nps.arrays(np.uint8, size)),
        ts=draw(nps.arrays(np.int64, size)), interacted=draw(nps.arrays(np.uint64, n_interacted)),
        text=draw(st.binary()), attributes=draw(st.binary()),
        shown=draw(nps.arrays(np.uint64, draw(st.integers(0, 64)))),
        minute_counts=draw(nps.arrays(np.float32, N_MINUTE_COUNTS, elements={"allow_nan": False})),
        minute_counts_ts=draw(NUMBERS), last_alarm_ts=draw(NUMBERS), ban_end_ts=draw(NUMBERS),
        banned_item=draw(st.integers(0, 2**64 - 1)),
        forgotten_ts=draw(NUMBERS), slates=draw(nps.arrays(np.uint64, draw(st.integers(0, 16)))),
    )  # fmt: skip


@given(profiles())
def test_profile_round_trips(profile: Profile) -> None:
    decoded = decode_profile(encode_profile(profile))
    for field in fields(Profile):
        expected, actual = getattr(profile, field.name), getattr(decoded, field.name)

        assert np.array_equal(expected, actual), field.name


def test_record_of_a_newer_schema_is_rejected() -> None:
    newer = [99, *msgspec.msgpack.decode(encode_profile(EMPTY_PROFILE))[1:]]

    with pytest.raises(ValueError, match="schema 99, expected at most"):
        decode_profile(msgspec.msgpack.encode(newer))


def test_fields_of_a_newer_writer_are_ignored() -> None:
    longer = [*msgspec.msgpack.decode(encode_profile(EMPTY_PROFILE)), b"", b"new"]

    assert decode_profile(msgspec.msgpack.encode(longer)).is_empty


def test_history_contains_the_original_ids() -> None:
    events = [Event("e\u20ac", "click", 5, "u", "i 1"), Event("e2", "like", 6, "u", "i:2")]
    profile = replace(
        EMPTY_PROFILE, user_id="u", item=np.array([1, 2], np.uint64), type=np.array([2, 3], np.uint8),
        ts=np.array([5, 6]), text=b"".join(map(history_line, events)), attributes=b'{"age":7}',
    )  # fmt: skip
    description = describe(profile)

    assert description["history"] == [
        {"item_id": "i 1", "type": "click", "ts": 5, "event_id": "e\u20ac"},
        {"item_id": "i:2", "type": "like", "ts": 6, "event_id": "e2"},
    ]
    assert description["attributes"] == {"age": 7}


def test_impression_adds_no_history_line() -> None:
    assert history_line(Event("e", "impression", 1, "u", impression_id="r", items=["a"])) == b""


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
def test_invalid_user_record_has_an_error(key: bytes | None, value: bytes | None) -> None:
    assert validate_user_record(key, value)


def test_attributes_and_tombstones_are_valid_user_records() -> None:
    assert validate_user_record(b"u", b'{"age": 7}') is None
    assert validate_user_record("ü".encode(), None) is None
