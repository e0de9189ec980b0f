"""What is an event, and what a producer is told about what is none."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.records.events import MAX_SLATE, MAX_TS, Event, Limits, Refusal, parse, parse_record, screen, shown

NOW = 1_767_225_600_000
LIMITS = Limits(max_age=86_400, max_skew=300)
CLICK = {"event_id": "e1", "type": "click", "ts": NOW, "user_id": "u1", "item_id": "i1"}
SHOWN = {"event_id": "e1", "type": "impression", "ts": NOW, "user_id": "u1", "impression_id": "r1", "items": ["a", "b"]}


def encoded(event: dict[str, Any], **fields: Any) -> bytes:
    changed = event | fields
    return msgspec.json.encode({name: value for name, value in changed.items() if value is not ...})


def judged(value: bytes) -> Refusal | None:
    """Why these bytes are refused."""
    event = parse(value)
    return event if isinstance(event, Refusal) else screen([event], [NOW], LIMITS).get(0)


@pytest.mark.parametrize(
    ("value", "reason", "told"),
    [
        (b"", "not_json", "JSON"),
        (b"{", "not_json", "JSON"),
        (b"\xff\xfe", "not_json", "UTF-8"),
        (b'{"event_id":"\xff"}', "not_json", "UTF-8"),
        (b"[" * 100_000, "not_object", "object"),
        (b"7", "not_object", "object"),
        (b"null", "not_object", "object"),
        (b"{}", "missing_field", "event_id"),
        (encoded(CLICK, type="wink"), "unknown_type", "impression, view, click"),
        (encoded(CLICK, user_id=...), "missing_field", "user_id"),
        (encoded(CLICK, item_id=...), "missing_field", "item_id"),
        (encoded(CLICK, user_id=7), "wrong_type", "user_id"),
        (encoded(CLICK, ts="now"), "wrong_type", "ts"),
        (encoded(CLICK, ts=1.5), "wrong_type", "ts"),
        (encoded(CLICK, value="5"), "wrong_type", "value"),
        (b'{"value":NaN}', "not_json", "JSON"),
        (encoded(CLICK, value=-1), "bad_value", "-1"),
        (encoded(CLICK, value=1e39), "bad_value", "finite"),
        (encoded(CLICK, user_id=""), "bad_id", "user_id"),
        (encoded(CLICK, user_id="x" * 257), "bad_id", "257 bytes"),
        (encoded(CLICK, user_id="ü" * 129), "bad_id", "258 bytes"),
        (encoded(CLICK, item_id="a\nb"), "bad_id", "item_id"),
        (encoded(CLICK, event_id="a\x7f"), "bad_id", "event_id"),
        (encoded(CLICK, session_id=""), "bad_id", "session_id"),
        (b'{"event_id":"\\ud800","type":"click","ts":1,"user_id":"u","item_id":"i"}', "not_json", ""),
        (encoded(CLICK, ts=-1), "bad_ts", "-1"),
        (encoded(CLICK, ts=MAX_TS + 1), "bad_ts", str(MAX_TS)),
        (encoded(CLICK, ts=NOW + 301_000), "too_early", "301 s"),
        (encoded(CLICK, ts=NOW - 86_401_000), "too_old", "86401 s"),
        (encoded(CLICK, position=MAX_SLATE), "bad_value", "position"),
        (encoded(SHOWN, impression_id=...), "missing_field", "impression_id"),
        (encoded(SHOWN, items=...), "missing_field", "items"),
        (encoded(SHOWN, items=[]), "missing_field", "items"),
        (encoded(SHOWN, items=["a", ""]), "bad_id", "items"),
        (encoded(SHOWN, items=["a", "x" * 257]), "bad_id", "257 bytes"),
        (encoded(SHOWN, items=["a", "b\x00"]), "bad_id", "items"),
        (encoded(SHOWN, items=["a"] * (MAX_SLATE + 1)), "too_large", "1001"),
        (encoded(SHOWN, propensities=[0.5]), "list_lengths", "propensities has 1 entries for 2"),
        (encoded(SHOWN, sources=["x"] * 3), "list_lengths", "sources"),
        (encoded(SHOWN, propensities=[0.5, 0]), "bad_propensity", "0"),
        (encoded(SHOWN, propensities=[0.5, 1.01]), "bad_propensity", "1.01"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(value: bytes, reason: str, told: str) -> None:
    refusal = judged(value)

    assert refusal is not None
    assert refusal.reason == reason
    assert told in refusal.detail


@pytest.mark.parametrize(
    "value",
    [
        encoded(CLICK),
        encoded(CLICK, new_field={"a": [1]}),
        encoded(CLICK, user_id="x" * 256),
        encoded(CLICK, user_id="ü" * 128),
        encoded(CLICK, ts=NOW + 300_000),
        encoded(CLICK, ts=NOW - 86_400_000),
        encoded(CLICK, value=None),
        encoded(CLICK, value=0),
        encoded(SHOWN),
        encoded(SHOWN, propensities=[1, 1e-9], sources=["a", "b"]),
        encoded(SHOWN, items=..., item_id="a", propensity=0.5, position=3),
    ],
)
def test_what_is_an_event_is_taken(value: bytes) -> None:
    assert judged(value) is None


def test_events_of_any_age_are_taken_when_no_age_is_set() -> None:
    event = msgspec.json.decode(encoded(CLICK, ts=0), type=Event)

    assert screen([event], [NOW], Limits(max_age=0, max_skew=300)) == {}


def test_a_bad_event_leaves_its_neighbours_alone() -> None:
    value = b"[" + b",".join([encoded(CLICK), b'{"type":7}', encoded(CLICK), b'"x"']) + b"]"
    parsed = parse_record(value, LIMITS)

    assert [isinstance(event, Event) for event, _ in parsed] == [True, False, True, False]
    assert parsed[1][1] == b'{"type":7}'


def test_a_record_that_is_too_large_is_refused_with_its_beginning() -> None:
    [(refusal, raw)] = parse_record(b"x" * 2_000_000, LIMITS)

    assert isinstance(refusal, Refusal)
    assert (refusal.reason, len(raw)) == ("too_large", 1024)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_bring_the_parser_down(value: bytes) -> None:
    for event, _ in parse_record(value, LIMITS):
        assert isinstance(event, Event | Refusal)


def test_the_items_of_an_event_are_those_that_were_seen() -> None:
    one = msgspec.convert({**SHOWN, "items": None, "item_id": "a"}, Event)
    several = msgspec.convert(SHOWN, Event)
    action = msgspec.convert({**CLICK, "items": ["x"]}, Event)

    assert (shown(one), shown(several), shown(action)) == (["a"], ["a", "b"], ["i1"])


@pytest.mark.parametrize("limits", [{"max_age": -1, "max_skew": 0}, {"max_age": 0, "max_skew": -1}])
def test_limits_are_not_negative(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Limits(**limits)  # type: ignore[arg-type]
