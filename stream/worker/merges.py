"""Write the events that join an anonymous user to an account."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from stream.ids import hash_id, partition_for_id
from stream.logs import EventLog
from stream.records.decoding import DecodedBatch
from stream.records.events import ALIAS, ATTACH, DETACH, Event
from stream.topics import EVENTS
from stream.users.table import ApplyResult, DetachedUser


def write_merge_events(log: EventLog, decoded: DecodedBatch, result: ApplyResult) -> None:
    """Append the events that follow from merges, before the examples are published.

    A crash in between writes them again. Their ids are those of the alias, so that the second ones are duplicates.
    """
    events = [*_detach_events(decoded.events, result), *_attach_events(decoded.events, result.detached)]
    partitions = log.partitions(EVENTS)
    for user_id, fields in events:
        record = user_id.encode(), msgspec.json.encode(fields | {"user_id": user_id})
        log.append(EVENTS, partition_for_id(user_id, partitions), [record])


def _detach_events(events: Sequence[Event], result: ApplyResult) -> Iterator[tuple[str, dict[str, Any]]]:
    for row, event in enumerate(events):
        if event.type == ALIAS and result.violation[row] == 0:
            fields = {"event_id": f"detach-{hash_id(event.event_id):016x}", "type": DETACH, "ts": event.ts}
            yield event.anonymous_id or "", fields | {"account_id": event.user}


def _attach_events(events: Sequence[Event], detached: Sequence[DetachedUser]) -> Iterator[tuple[str, dict[str, Any]]]:
    for user in detached:
        event = events[user.row]
        ids = [line.decode().rstrip("\n").split("\t") for line in user.lines]
        columns = zip(ids, user.types, user.ts, strict=True)
        actions = [(item, kind, ts, event_id) for (item, event_id), kind, ts in columns]
        if actions:
            fields = {"event_id": f"attach-{hash_id(event.event_id):016x}", "type": ATTACH, "ts": event.ts}
            yield event.account_id or "", fields | {"actions": actions, "counts": user.counts}
