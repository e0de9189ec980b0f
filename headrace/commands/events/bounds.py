"""Ends of a range of records: an offset, a partition with an offset, a time, or an age."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace.commands.errors import UsageError
from stream.clock import DAY_MS, HOUR_MS, MINUTE_MS
from stream.logs import EventLog

_UNITS_MS = {"s": 1000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_OFFSET = re.compile(r"(?:([0-9]{1,9}):)?([0-9]{1,18})", re.ASCII)
_AGE = re.compile(r"-?([0-9]{1,9}(?:\.[0-9]+)?)([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bound:
    """First or last end of the records to read, in one partition or in all."""

    offset: int | None = None
    time_ms: int | None = None  # of the record, as the log has it
    partition: int | None = None

    def resolve(self, log: EventLog, topic: str, partition: int) -> int:
        """Offset in a partition."""
        if self.time_ms is not None:
            return log.offset_for_time(topic, partition, self.time_ms)
        assert self.offset is not None
        return self.offset


def parse_bound(option: str, text: str, now_ms: int) -> Bound:
    """Parse the value of an option; a time without a zone is in UTC.

    >>> parse_bound("--from", "1:200", 0)
    Bound(offset=200, time_ms=None, partition=1)
    >>> parse_bound("--from", "-2h", 10_000_000).time_ms
    2800000
    >>> parse_bound("--from", "1970-01-01T00:00:05Z", 0).time_ms
    5000
    """
    if match := _OFFSET.fullmatch(text):
        return Bound(int(match[2]), partition=None if match[1] is None else int(match[1]))
    if match := _AGE.fullmatch(text):
        return Bound(time_ms=now_ms - round(float(match[1]) * _UNITS_MS[match[2]]))
    try:
        time = datetime.fromisoformat(text)
        return Bound(time_ms=round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r} is invalid; expected an offset (1200), a partition with an offset (0:1200), a time "
            "(2026-01-31T08:00:00Z) or an age (-1h, -30m, -2d)"
        ) from None
