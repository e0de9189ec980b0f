"""Events in an offset range: number, types, users, items and times."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.commands.output import format_count, format_time
from online_models.control import Ranges
from stream.logs import EventLog
from stream.topics import EVENTS

_RECORDS_PER_READ = 4096
_MAX_RECORDS = 200_000  # read per range; a larger range is counted, not described


@dataclass(slots=True)
class RangeContents:
    """Events of one range; those after the first 200,000 records are not described."""

    option: str
    partition: int
    first: int
    next: int
    records: int = 0
    events: int = 0
    types: Counter[str] = field(default_factory=Counter)
    users: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    start_ms: int | None = None  # record times
    end_ms: int | None = None
    is_complete: bool = True

    def to_dict(self) -> dict[str, Any]:
        names = ("option", "partition", "first", "next", "records", "events", "start_ms", "end_ms", "is_complete")
        counts = {
            "types": dict(self.types.most_common()),
            "users": len(self.users),
            "items": len(self.items),
            "top_users": dict(self.users.most_common(3)),
            "top_items": dict(self.items.most_common(3)),
        }
        return {name: getattr(self, name) for name in names} | counts

    def describe(self) -> str:
        """One line: number, types, users, items and record times."""
        types = ", ".join(f"{name} {count:,}" for name, count in self.types.most_common()) or "none"
        more = "" if self.is_complete else " or more"
        user = "".join(f", most active {name} ({count:,})" for name, count in self.users.most_common(1))
        return (
            f"{self.option} {self.partition}:{self.first}-{self.next}: {format_count(self.events, 'event')}{more} "
            f"({types}), {format_count(len(self.users), 'user')}{user}, {format_count(len(self.items), 'item')}, "
            f"recorded {format_time(self.start_ms)} to {format_time(self.end_ms)} UTC"
        )


def read_contents(log: EventLog, option: str, ranges: Ranges) -> Iterator[RangeContents]:
    """Describe the events of each range."""
    for partition, runs in ranges.items():
        for first, next_ in runs:
            yield _read_range(log, RangeContents(option, int(partition), first, next_))


def _read_range(log: EventLog, contents: RangeContents) -> RangeContents:
    offset = contents.first
    while offset < contents.next and contents.records < _MAX_RECORDS:
        records = log.read(EVENTS, contents.partition, offset, min(_RECORDS_PER_READ, contents.next - offset))
        times = [
            time for time, position in zip(records.times, records.offsets, strict=True) if position < contents.next
        ]
        if not times:
            return contents
        contents.records += len(times)
        contents.start_ms, contents.end_ms = contents.start_ms or times[0], times[-1]
        for value in records.values[: len(times)]:
            _add_events(contents, value)
        offset = records.offsets[-1] + 1
    contents.is_complete = offset >= contents.next
    return contents


def _add_events(contents: RangeContents, value: bytes | None) -> None:
    try:
        decoded = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    for event in decoded if isinstance(decoded, list) else [decoded]:
        if isinstance(event, dict):
            contents.events += 1
            contents.types[str(event.get("type", ""))] += 1
            contents.users[str(event.get("user_id", ""))] += 1
            if event.get("item_id"):
                contents.items[str(event["item_id"])] += 1
