"""Valid events are accepted, and invalid ones are rejected with a reason for the producer."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.clock import DAY_MS
from stream.records.events import (
    MAX_SLATE,
    Event,
    Limits,
    Rejection,
    parse,
    parse_record,
    shown_items,
    validate,
)
from stream.records.timestamps import MAX_TS, guess_time_unit

NOW = 1_767_225_600_000
MIN_YEAR_MS, MAX_YEAR_MS = 315_532_800_000, 4_102_444_800_000  # 1980 and 2100
LIMITS = Limits(max_age=86_400, max_skew=300)
CLICK = {"event_id": "e1", "type": "click", "ts": NOW, "user_id": "u1", "item_id": "i1"}
IMPRESSION = {
    "event_id": "e1",
    "type": "impression",
    "ts": NOW,
    "user_id": "u1",
    "impression_id": "r1",
    "items": ["a", "b"],
}


def encode_event(event: dict[str, Any], **fields: Any) -> bytes:
    merged = event | fields
    return msgspec.json.encode({name: value for name, value in merged.items() if value is not ...})


def find_rejection(value: bytes) -> Rejection | None:
    """Rejection of these bytes, or None."""
    event = parse(value)
    return event if isinstance(event, Rejection) else validate([event], [NOW], LIMITS).get(0)


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (b"", "not_json", "JSON"),
        (b"{", "not_json", "JSON"),
        (b"\xff\xfe", "not_json", "UTF-8"),
        (b'{"event_id":"\xff"}', "not_json", "UTF-8"),
        (b"[" * 100_000, "not_object", "object"),
        (b"7", "not_object", "object"),
        (b"null", "not_object", "object"),
        (b"{}", "missing_field", "event_id"),
        (encode_event(CLICK, type="wink"), "unknown_type", "impression, view, click"),
        (encode_event(CLICK, item_id=...), "missing_field", "item_id"),
        (encode_event(CLICK, user_id=7), "wrong_type", "user_id"),
        (encode_event(CLICK, ts="now"), "wrong_type", "ts"),
        (encode_event(CLICK, ts=1.5), "wrong_type", "ts"),
        (encode_event(CLICK, value="5"), "wrong_type", "value"),
        (b'{"value":NaN}', "not_json", "JSON"),
        (encode_event(CLICK, value=-1), "bad_value", "-1"),
        (encode_event(CLICK, value=1e39), "bad_value", "expected 0 to 3.4e+38"),
        (encode_event(CLICK, user_id=""), "bad_id", "user_id"),
        (encode_event(CLICK, user_id="x" * 257), "bad_id", "257 bytes"),
        (encode_event(CLICK, user_id="ü" * 129), "bad_id", "258 bytes"),
        (encode_event(CLICK, item_id="a\nb"), "bad_id", "item_id"),
        (encode_event(CLICK, event_id="a\x7f"), "bad_id", "event_id"),
        (encode_event(CLICK, session_id=""), "bad_id", "session_id"),
        (b'{"event_id":"\\ud800","type":"click","ts":1,"user_id":"u","item_id":"i"}', "not_json", ""),
        (encode_event(CLICK, ts=-1), "bad_ts", "-1"),
        (encode_event(CLICK, ts=10**17 - 1), "bad_ts", str(MAX_TS)),
        (encode_event(CLICK, ts=NOW + 301_000), "too_early", "301 s"),
        (encode_event(CLICK, ts=NOW - 86_401_000), "too_old", "86401 s"),
        (encode_event(CLICK, position=MAX_SLATE), "bad_value", "position"),
        (encode_event(IMPRESSION, impression_id=...), "missing_field", "impression_id"),
        (encode_event(IMPRESSION, items=...), "missing_field", "items"),
        (encode_event(IMPRESSION, items=[]), "missing_field", "items"),
        (encode_event(IMPRESSION, items=["a", ""]), "bad_id", "items"),
        (encode_event(IMPRESSION, items=["a", "x" * 257]), "bad_id", "257 bytes"),
        (encode_event(IMPRESSION, items=["a", "b\x00"]), "bad_id", "items"),
        (encode_event(IMPRESSION, items=["a"] * (MAX_SLATE + 1)), "too_large", "1001"),
        (encode_event(IMPRESSION, propensities=[0.5]), "list_lengths", "propensities has 1 entries for 2"),
        (encode_event(IMPRESSION, sources=["x"] * 3), "list_lengths", "sources"),
        (encode_event(IMPRESSION, propensities=[0.5, 0]), "bad_propensity", "0"),
        (encode_event(IMPRESSION, propensities=[0.5, 1.01]), "bad_propensity", "propensities has 1.01"),
        (encode_event(IMPRESSION, items=["a"], propensity=0), "bad_propensity", "propensity has 0"),
        (encode_event(IMPRESSION, items=["a", "b", "a"]), "repeated_item", "'a' more than once"),
        (encode_event(CLICK, type="rating"), "missing_field", "value"),
        (encode_event(CLICK, type="rating", value=None), "missing_field", "value"),
        (encode_event(CLICK, ts=NOW // 1000), "too_old", "looks like seconds; ts is in milliseconds"),
        (encode_event(CLICK, ts=NOW * 1000), "too_early", "looks like microseconds; ts is in milliseconds"),
        (encode_event(CLICK, ts=NOW * 10**6), "bad_ts", "looks like nanoseconds; ts is in milliseconds"),
        (encode_event(CLICK, ts=NOW / 1000), "wrong_type", "ts is in milliseconds"),
        (b'{"event_id":"e1","user_id":"ab\xff"}', "not_json", "position 30"),
    ],
)
def test_invalid_event_is_rejected_with_a_reason(value: bytes, reason: str, detail: str) -> None:
    rejection = find_rejection(value)

    assert rejection is not None
    assert rejection.reason == reason
    assert detail in rejection.detail


@pytest.mark.parametrize(
    "value",
    [
        encode_event(CLICK),
        encode_event(CLICK, new_field={"a": [1]}),
        encode_event(CLICK, user_id="x" * 256),
        encode_event(CLICK, user_id="ü" * 128),
        encode_event(CLICK, ts=NOW + 300_000),
        encode_event(CLICK, ts=NOW - DAY_MS),
        encode_event(CLICK, value=None),
        encode_event(CLICK, value=0),
        encode_event(IMPRESSION),
        encode_event(IMPRESSION, propensities=[1, 1e-9], sources=["a", "b"]),
        encode_event(IMPRESSION, items=..., item_id="a", propensity=0.5, position=3),
    ],
)
def test_valid_event_is_accepted(value: bytes) -> None:
    assert find_rejection(value) is None


def test_events_of_any_age_are_accepted_without_an_age_limit() -> None:
    event = msgspec.json.decode(encode_event(CLICK, ts=0), type=Event)

    assert validate([event], [NOW], Limits(max_age=0, max_skew=300)) == {}


@pytest.mark.parametrize(
    ("time", "hint"),
    [(NOW // 1000, "record looks like seconds: set message.timestamp.type=LogAppendTime"),
     (NOW * 1000, "record looks like microseconds"), (NOW - 10 * DAY_MS, "(2025-12-22T00:00:00+00:00)"), (-1, "-1 ms")],
)  # fmt: skip
def test_rejection_names_the_time_of_the_record(time: int, hint: str) -> None:
    event = msgspec.json.decode(encode_event(CLICK), type=Event)
    rejection = validate([event], [time], LIMITS)[0]

    assert rejection.reason in ("too_early", "too_old")
    assert f"the time of its record, {time} ms" in rejection.detail
    assert hint in rejection.detail


@given(st.integers(MIN_YEAR_MS, MAX_YEAR_MS))
def test_milliseconds_of_a_century_are_no_other_unit(ts: int) -> None:
    assert guess_time_unit(ts) is None
    assert guess_time_unit(ts // 1000) == "seconds"
    assert guess_time_unit(ts * 1000) == "microseconds"
    assert guess_time_unit(ts * 1_000_000) == "nanoseconds"


@pytest.mark.parametrize(
    ("text", "ts"),
    [("2026-01-01T00:00:03.210Z", 1767225603210), ("2026-01-01T01:00:00+01:00", 1767225600000),
     ("2026-01-01 00:00:00", 1767225600000), ("2026-01-01", 1767225600000)],
)  # fmt: skip
def test_time_may_be_iso_8601_text(text: str, ts: int) -> None:
    event = parse(encode_event(CLICK, ts=text))

    assert isinstance(event, Event)
    assert event == parse(encode_event(CLICK, ts=ts))


@pytest.mark.parametrize("text", ["", "yesterday", "1767225600000", "2026-13-01", "2026-01-01T25:00:00Z"])
def test_text_that_is_no_time_is_rejected_with_its_value(text: str) -> None:
    rejection = parse(encode_event(CLICK, ts=text))

    assert isinstance(rejection, Rejection)
    assert rejection.reason == "wrong_type"
    assert f"got {text!r}" in rejection.detail
    assert "ISO 8601" in rejection.detail


def test_invalid_event_leaves_its_neighbors_alone() -> None:
    value = b"[" + b",".join([encode_event(CLICK), b'{"type":7}', encode_event(CLICK), b'"x"']) + b"]"
    results = parse_record(value, LIMITS)

    assert [isinstance(event, Event) for event, _ in results] == [True, False, True, False]
    assert results[1][1] == b'{"type":7}'


def test_oversized_record_is_rejected_with_its_first_bytes() -> None:
    [(rejection, raw)] = parse_record(b"x" * 2_000_000, LIMITS)

    assert isinstance(rejection, Rejection)
    assert (rejection.reason, len(raw)) == ("too_large", 1024)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_parser_accepts_arbitrary_bytes(value: bytes) -> None:
    for event, _ in parse_record(value, LIMITS):
        assert isinstance(event, Event | Rejection)


def test_shown_items_are_the_items_that_the_user_saw() -> None:
    single = msgspec.convert({**IMPRESSION, "items": None, "item_id": "a"}, Event)
    slate = msgspec.convert(IMPRESSION, Event)
    action = msgspec.convert({**CLICK, "items": ["x"]}, Event)

    assert (shown_items(single), shown_items(slate), shown_items(action)) == (["a"], ["a", "b"], ["i1"])


@pytest.mark.parametrize("limits", [{"max_age": -1, "max_skew": 0}, {"max_age": 0, "max_skew": -1}])
def test_negative_limits_are_rejected(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Limits(**limits)  # type: ignore[arg-type]


def test_last_value_of_a_repeated_key_counts() -> None:
    value = encode_event(CLICK)[:-1] + b',"item_id":"i2","event_id":"e2"}'
    event = parse(value)

    assert isinstance(event, Event)
    assert (event.event_id, event.item_id) == ("e2", "i2")
