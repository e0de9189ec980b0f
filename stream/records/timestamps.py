"""Validate event times, and name the unit that a wrong one seems to have."""

from datetime import UTC, datetime, timedelta

MAX_TS = 1 << 53  # largest integer that every JSON reader keeps exact
TS_UNIT = "in milliseconds since 1970, a whole number, or ISO 8601 text"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_PER_SECOND = {"seconds": 1, "microseconds": 10**6, "nanoseconds": 10**9}


def parse_text_time(text: str) -> int:
    """Convert ISO 8601 text to milliseconds since 1970; without a zone it is UTC.

    ValueError if it is another text.

    >>> parse_text_time("2026-01-01T01:00:00.250+01:00"), parse_text_time("2026-01-01 00:00:00")
    (1767225600250, 1767225600000)
    """
    time = datetime.fromisoformat(text)
    return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)


def guess_time_unit(ts: int) -> str | None:
    """Unit in which a time is of the years 1973 to 2286, if it is not milliseconds.

    >>> guess_time_unit(1767225600), guess_time_unit(1767225600_000), guess_time_unit(1767225600_000_000)
    ('seconds', None, 'microseconds')
    """
    return next((unit for unit, scale in _UNITS_PER_SECOND.items() if 1e8 * scale <= ts < 1e10 * scale), None)


def validate_time(ts: int, time: int, max_age: float, max_skew: float) -> tuple[str, str] | None:
    """Error of an event time as (reason, detail), or None.

    `time`: of the record, ms. `max_age` and `max_skew` in seconds; an age of 0 accepts any.
    """
    unit = guess_time_unit(ts)
    hint = f"ts {ts} looks like {unit}; ts is {TS_UNIT}" if unit else ""
    if not 0 <= ts <= MAX_TS:
        return "bad_ts", hint or f"ts {ts} is not epoch milliseconds; expected 0 to {MAX_TS}"
    if ts > time + max_skew * 1000:
        detail = f"ts {ts} is {(ts - time) / 1000:.0f} s ahead of {_describe_time(time)}"
        limit = f"at most {max_skew:.0f} s is allowed (events.max_skew)"
        return "too_early", hint or f"{detail}; {limit}{_time_hint(time)}"
    if max_age and ts < time - max_age * 1000:
        detail = f"ts {ts} is {(time - ts) / 1000:.0f} s older than {_describe_time(time)}"
        return "too_old", hint or f"{detail}; at most {max_age:.0f} s is allowed (events.max_age){_time_hint(time)}"
    return None


def parse_request_time(field: str, time: int | str) -> int:
    """Convert a number, also as text, or ISO 8601 text to ms; ValueError names the field."""
    try:
        is_number = isinstance(time, int) or (time.isascii() and time.isdigit())
        ts = int(time) if is_number else parse_text_time(str(time))
    except (ValueError, OverflowError):
        raise ValueError(f"{field} is {str(time)[:64]!r}; expected a time {TS_UNIT}") from None
    if error := validate_time(ts, ts, 0, 0):
        raise ValueError(error[1] if field == "ts" else f"{field}: {error[1]}")
    return ts


def _describe_time(time: int) -> str:
    try:
        text = datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # a producer can write any number
        return f"the time of its record, {time} ms"
    return f"the time of its record, {time} ms ({text})"


def _time_hint(time: int) -> str:
    """Advice for a record time in another unit, which only a producer can have set."""
    unit = guess_time_unit(time)
    fix = "set message.timestamp.type=LogAppendTime on the topic"
    return f"; the time of the record looks like {unit}: {fix}" if unit else ""
