"""Events that come in over HTTP: refused with a reason, or durable in the log when the producer is told so."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from serving import metrics
from serving.ingest.group_commit import Appender
from serving.ingest.json_bodies import fault_of
from serving.ingest.pending_writes import Acknowledged
from stream import metrics as stream_metrics
from stream.clock import Clock
from stream.deduplication import SeenEvents
from stream.ids import keys_of
from stream.logs import EventLog
from stream.records.dead_letters import Refused, dead_letter
from stream.records.decoding import take_in
from stream.records.events import Event, Limits, Refusal, parse, screen
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS
from stream.users.profiles import decode_profile

_REMEMBERED = 200_000  # event ids that this process recognises by itself
_TAIL = 20_000  # records per partition read at the start
_KEPT = 1024  # bytes kept of what is too large, or is no JSON at all
_logger = logging.getLogger(__name__)


class Received(msgspec.Struct):
    """What became of the events of one request. A repeat is accepted: it is in the log already and changes nothing."""

    accepted: int
    repeated: int
    refused: list[dict[str, Any]]


class Inbox:
    """Takes events in. What repeats is recognised by what this process took in lately, and by the person's record."""

    def __init__(
        self,
        log: EventLog,
        store: UserStore,
        appender: Appender,
        acknowledged: Acknowledged,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._store = store
        self._appender = appender
        self._acknowledged = acknowledged
        self._limits = limits
        self._clock = clock
        self._seen = SeenEvents(_REMEMBERED)
        for partition in range(log.partitions(EVENTS)):
            end = log.end(EVENTS, partition)
            tail = log.read(EVENTS, partition, max(0, end - _TAIL), _TAIL)
            self._seen.first_seen(take_in(tail, limits).batch.event)

    async def take(self, raws: Sequence[msgspec.Raw]) -> Received:
        """Screen, append, answer; the events are durable when this returns."""
        values = [bytes(raw) for raw in raws]
        kept, refused = self._screened(values)
        fresh = self._fresh(list(kept.values()))
        records = [(event.user_id, values[i]) for (i, event), new in zip(kept.items(), fresh, strict=True) if new]
        self._bury(refused, values)
        if records:
            first = await self._appender.append(EVENTS, records)
            self._acknowledged.note([user for user, _ in records], first, self._clock.now_ms())
        # Known only from now on: had the write failed, a second try must not pass for a repeat.
        self._seen.first_seen(keys_of([event.event_id for event in kept.values()]))
        metrics.accepted.inc(len(kept))
        told = [{"index": i, "reason": one.detail, "code": one.reason} for i, one in sorted(refused.items())]
        return Received(len(kept), len(kept) - len(records), told)

    def refuse(self, body: bytes, detail: str) -> None:
        """Send a body that is no JSON to dead-letter."""
        self._bury({0: Refusal("not_json", detail)}, [body[:_KEPT]])

    def _screened(self, values: Sequence[bytes]) -> tuple[dict[int, Event], dict[int, Refusal]]:
        """Events and refusals by their place in the request."""
        parsed = [self._parse(value) for value in values]
        refused = {i: one for i, one in enumerate(parsed) if isinstance(one, Refusal)}
        events = {i: one for i, one in enumerate(parsed) if isinstance(one, Event)}
        places = list(events)
        now = self._clock.now_ms()
        for at, refusal in screen(list(events.values()), [now] * len(events), self._limits).items():
            refused[places[at]] = refusal
            del events[places[at]]
        return events, refused

    def _parse(self, value: bytes) -> Event | Refusal:
        if len(value) > self._limits.max_bytes:
            return Refusal("too_large", f"the event has {len(value)} bytes; at most {self._limits.max_bytes} are taken")
        parsed = parse(value)
        if isinstance(parsed, Refusal) and parsed.reason == "not_json" and (fault := fault_of(value)):
            return Refusal(*fault)
        return parsed

    def _fresh(self, events: Sequence[Event]) -> list[bool]:
        """Which events are new, as far as can be told here; the stream worker has the last word."""
        keys = keys_of([event.event_id for event in events])
        known = self._seen.knows(keys)
        known[np.setdiff1d(np.arange(keys.size), np.unique(keys, return_index=True)[1])] = True
        texts = self._texts([event for event, seen in zip(events, known, strict=True) if not seen])
        return [
            not seen and f"\t{event.event_id}\n".encode() not in texts.get(event.user_id, b"")
            for event, seen in zip(events, known, strict=True)
        ]

    def _texts(self, events: Sequence[Event]) -> Mapping[str, bytes]:
        """What the records of the events' users say of their last events, by user id."""
        users = sorted({event.user_id for event in events})
        try:
            found = zip(users, self._store.get_many(keys_of(users)), strict=True)
            return {user: decode_profile(value).text for user, value in found if value is not None}
        except (OSError, ValueError, msgspec.DecodeError) as error:  # away, or a record that this code cannot read
            _logger.warning("user store away, repeats are left to the stream worker: %s", error)
            metrics.fallbacks.labels("store").inc()
            return {}

    def _bury(self, refused: Mapping[int, Refusal], values: Sequence[bytes]) -> None:
        letters = []
        for i, refusal in sorted(refused.items()):
            stream_metrics.dead_letter.labels(refusal.reason).inc()
            raw = values[i][:_KEPT] if refusal.reason == "too_large" else values[i]
            letters.append(("", dead_letter(Refused(-1, i, refusal, raw), None)))
        if letters:
            self._appender.append_later(DEAD_LETTER, letters)
