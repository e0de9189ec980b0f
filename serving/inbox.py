"""Events that come in over HTTP: refused with a reason, or durable in the log when the producer is told so."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from serving import metrics
from serving.appender import Appender
from stream import metrics as stream_metrics
from stream.clock import Clock
from stream.events import Event, Limits, Refusal, parse, screen
from stream.ids import keys_of
from stream.intake import Refused, take_in
from stream.logs import EventLog
from stream.profiles import decode_profile
from stream.seen import SeenEvents
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS
from stream.worker import dead_letter

_REMEMBERED = 200_000  # event ids that this process recognises by itself
_TAIL = 20_000  # records per partition read at the start


class Received(msgspec.Struct):
    """What became of the events of one request. A repeat is accepted: it is in the log already and changes nothing."""

    accepted: int
    repeated: int
    refused: list[dict[str, Any]]


class Inbox:
    """Takes events in. What repeats is recognised by what this process took in lately, and by the person's record."""

    def __init__(self, log: EventLog, store: UserStore, appender: Appender, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._appender = appender
        self._limits = limits
        self._clock = clock
        self._seen = SeenEvents(_REMEMBERED)
        for partition in range(log.partitions(EVENTS)):
            end = log.end(EVENTS, partition)
            tail = log.read(EVENTS, partition, max(0, end - _TAIL), _TAIL)
            self._seen.first_seen(take_in(tail, limits).batch.event)

    async def take(self, raws: Sequence[msgspec.Raw]) -> Received:
        """Screen, append, answer; the events are durable when this returns."""
        parsed = [parse(raw) for raw in raws]
        refused = {i: one for i, one in enumerate(parsed) if isinstance(one, Refusal)}
        sound = [i for i, one in enumerate(parsed) if isinstance(one, Event)]
        events = [one for one in parsed if isinstance(one, Event)]
        now = self._clock.now_ms()
        for place, refusal in screen(events, [now] * len(events), self._limits).items():
            refused[sound[place]] = refusal
        kept = [(i, event) for i, event in zip(sound, events, strict=True) if i not in refused]
        fresh = self._fresh([event for _, event in kept])
        records = [(event.user_id, bytes(raws[i])) for (i, event), new in zip(kept, fresh, strict=True) if new]
        self._bury(refused, raws)
        if records:
            await self._appender.append(EVENTS, records)
        if kept:
            self._seen.first_seen(keys_of([event.event_id for _, event in kept]))
        metrics.accepted.inc(len(kept))
        told = [{"index": i, "reason": refusal.detail, "code": refusal.reason} for i, refusal in sorted(refused.items())]
        return Received(len(kept), len(kept) - len(records), told)

    def _fresh(self, events: Sequence[Event]) -> list[bool]:
        """Which events are new, as far as can be told here; the stream worker has the last word."""
        keys = keys_of([event.event_id for event in events])
        known = self._seen.knows(keys)
        known[np.setdiff1d(np.arange(keys.size), np.unique(keys, return_index=True)[1])] = True
        told = self._told_before([event for event, seen in zip(events, known, strict=True) if not seen])
        return [not seen and event.event_id not in told for event, seen in zip(events, known, strict=True)]

    def _told_before(self, events: Sequence[Event]) -> set[str]:
        """Event ids that stand in the records of their users."""
        users = np.unique(keys_of([event.user_id for event in events]))
        told: set[str] = set()
        for value in self._store.get_many(users) if users.size else ():
            if value is not None:
                told.update(line.rpartition(b"\t")[2].decode() for line in decode_profile(value).text.split(b"\n"))
        return told

    def _bury(self, refused: dict[int, Refusal], raws: Sequence[msgspec.Raw]) -> None:
        letters = []
        for i, refusal in sorted(refused.items()):
            stream_metrics.dead_letter.labels(refusal.reason).inc()
            letters.append(("", dead_letter(Refused(-1, i, refusal, bytes(raws[i])), None)))
        if letters:
            self._appender.append_later(DEAD_LETTER, letters)
