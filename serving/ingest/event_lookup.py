"""Find an event of the log by its event_id, and build the event that takes it back."""

from collections.abc import Iterator
from typing import Any

import msgspec

from stream.logs import EventLog
from stream.records.events import RETRACT, RETRACTIONS, Event, Limits, parse_record
from stream.topics import EVENTS

MAX_RECORDS = 200_000  # newest records of each partition that are searched
_RECORDS_PER_READ = 4096
_NO_LIMITS = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)


class EventNotFound(LookupError):
    """No event with this id, and so no user."""


class EventNotRetractable(ValueError):
    """The event is no action, or of another user."""


def build_retraction(event_id: str, user_id: str | None, event: Event | None, new_id: str, now: int) -> dict[str, Any]:
    """Build the event with id `new_id` that takes back an action.

    `event`: the action, None if it has not arrived.
    """
    retraction = {"event_id": new_id, "type": RETRACT, "ts": now, "user_id": user_id, "retracted_id": event_id}
    if event is None:
        if user_id is None:
            raise EventNotFound(f"no event {event_id!r} among the newest {MAX_RECORDS} records of each partition")
        return retraction
    if event.type == "impression" or event.type in RETRACTIONS:
        raise EventNotRetractable(f"event {event_id!r} is of type {event.type}; expected an action on an item")
    if user_id not in (None, event.user):
        raise EventNotRetractable(f"event {event_id!r} is of another user than user_id")
    details = {"item_id": event.item_id, "impression_id": event.impression_id, "value": event.value}
    named = {name: value for name, value in details.items() if value is not None}
    return retraction | {"user_id": event.user or None} | named


def find_event(log: EventLog, event_id: str) -> Event | None:
    """Return the newest event with this id among the newest records of all partitions, or None."""
    needles = {event_id.encode(), msgspec.json.encode(event_id)[1:-1], event_id.encode("ascii", "backslashreplace")}
    for value in _read_newest(log):
        if any(needle in value for needle in needles):
            for event, _ in parse_record(value, _NO_LIMITS):
                if isinstance(event, Event) and event.event_id == event_id:
                    return event
    return None


def _read_newest(log: EventLog) -> Iterator[bytes]:
    """Values of the newest records, one read of each partition in turn, backwards."""
    starts = {p: max(log.start_offset(EVENTS, p), end - MAX_RECORDS) for p, end in log.end_offsets(EVENTS).items()}
    ends = log.end_offsets(EVENTS)
    while ends:
        for partition, end in list(ends.items()):
            first = ends[partition] = max(starts[partition], end - _RECORDS_PER_READ)
            if first == end:
                del ends[partition]
                continue
            records = log.read(EVENTS, partition, first, end - first).before(end)
            yield from (value for value in reversed(records.values) if value)
