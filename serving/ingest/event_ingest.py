"""Events that come in over HTTP: refused with a reason, or durable in the log when the producer is told so."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from serving import metrics
from serving.ingest.group_commit import GroupCommitWriter
from serving.ingest.json_bodies import find_invalid_field
from serving.ingest.pending_writes import PendingWrites
from stream import metrics as stream_metrics
from stream.clock import Clock
from stream.deduplication import Deduplicator
from stream.ids import hash_ids
from stream.logs import EventLog
from stream.records.dead_letters import RejectedEvent, encode_dead_letter
from stream.records.decoding import decode_records
from stream.records.events import Event, Limits, Rejection, parse, validate
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS
from stream.users.profiles import decode_profile

_DEDUP_EVENTS = 200_000  # event ids that this process recognises by itself
_TAIL_RECORDS = 20_000  # records per partition read at the start
_MAX_REJECTED_BYTES = 1024  # bytes kept of what is too large, or is no JSON at all
_logger = logging.getLogger(__name__)


class IngestResult(msgspec.Struct):
    """What became of the events of one request. A repeat is accepted: it is in the log already and changes nothing."""

    accepted: int
    repeated: int
    refused: list[dict[str, Any]]


class EventIngest:
    """Takes events in. What repeats is recognised by what this process took in lately, and by the person's record."""

    def __init__(
        self,
        log: EventLog,
        store: UserStore,
        writer: GroupCommitWriter,
        pending_writes: PendingWrites,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._store = store
        self._writer = writer
        self._pending_writes = pending_writes
        self._limits = limits
        self._clock = clock
        self._deduplicator = Deduplicator(_DEDUP_EVENTS)
        for partition in range(log.partitions(EVENTS)):
            end = log.end_offset(EVENTS, partition)
            tail = log.read(EVENTS, partition, max(0, end - _TAIL_RECORDS), _TAIL_RECORDS)
            self._deduplicator.check_and_add(decode_records(tail, limits).batch.event)

    async def ingest(self, raws: Sequence[msgspec.Raw]) -> IngestResult:
        """Screen, append, answer; the events are durable when this returns."""
        values = [bytes(raw) for raw in raws]
        events, rejections = self._validate(values)
        is_new = self._find_new(list(events.values()))
        records = [(event.user_id, values[i]) for (i, event), new in zip(events.items(), is_new, strict=True) if new]
        self._dead_letter(rejections, values)
        if records:
            first_offsets = await self._writer.append(EVENTS, records)
            self._pending_writes.record([user for user, _ in records], first_offsets, self._clock.now_ms())
        # Known only from now on: had the write failed, a second try must not pass for a repeat.
        self._deduplicator.check_and_add(hash_ids([event.event_id for event in events.values()]))
        metrics.events_accepted.inc(len(events))
        rejection_details = [
            {"index": i, "reason": rejection.detail, "code": rejection.reason}
            for i, rejection in sorted(rejections.items())
        ]
        return IngestResult(len(events), len(events) - len(records), rejection_details)

    def reject_body(self, body: bytes, detail: str) -> None:
        """Send a body that is no JSON to dead-letter."""
        self._dead_letter({0: Rejection("not_json", detail)}, [body[:_MAX_REJECTED_BYTES]])

    def _validate(self, values: Sequence[bytes]) -> tuple[dict[int, Event], dict[int, Rejection]]:
        """Events and refusals by their place in the request."""
        results = [self._parse(value) for value in values]
        rejections = {i: result for i, result in enumerate(results) if isinstance(result, Rejection)}
        events = {i: result for i, result in enumerate(results) if isinstance(result, Event)}
        indices = list(events)
        now = self._clock.now_ms()
        for position, rejection in validate(list(events.values()), [now] * len(events), self._limits).items():
            rejections[indices[position]] = rejection
            del events[indices[position]]
        return events, rejections

    def _parse(self, value: bytes) -> Event | Rejection:
        if len(value) > self._limits.max_bytes:
            return Rejection(
                "too_large", f"the event has {len(value)} bytes; at most {self._limits.max_bytes} are taken"
            )
        result = parse(value)
        if (
            isinstance(result, Rejection)
            and result.reason == "not_json"
            and (invalid_field := find_invalid_field(value))
        ):
            return Rejection(*invalid_field)
        return result

    def _find_new(self, events: Sequence[Event]) -> list[bool]:
        """Which events are new, as far as can be told here; the stream worker has the last word."""
        keys = hash_ids([event.event_id for event in events])
        is_duplicate = self._deduplicator.contains(keys)
        is_duplicate[np.setdiff1d(np.arange(keys.size), np.unique(keys, return_index=True)[1])] = True
        history_texts = self._load_history_texts(
            [event for event, duplicate in zip(events, is_duplicate, strict=True) if not duplicate]
        )
        return [
            not duplicate and f"\t{event.event_id}\n".encode() not in history_texts.get(event.user_id, b"")
            for event, duplicate in zip(events, is_duplicate, strict=True)
        ]

    def _load_history_texts(self, events: Sequence[Event]) -> Mapping[str, bytes]:
        """What the records of the events' users say of their last events, by user id."""
        users = sorted({event.user_id for event in events})
        try:
            records = zip(users, self._store.get_many(hash_ids(users)), strict=True)
            return {user: decode_profile(value).text for user, value in records if value is not None}
        except (OSError, ValueError, msgspec.DecodeError) as error:  # away, or a record that this code cannot read
            _logger.warning("user store away, repeats are left to the stream worker: %s", error)
            metrics.fallbacks.labels("store").inc()
            return {}

    def _dead_letter(self, rejections: Mapping[int, Rejection], values: Sequence[bytes]) -> None:
        records = []
        for i, rejection in sorted(rejections.items()):
            stream_metrics.dead_letter.labels(rejection.reason).inc()
            raw = values[i][:_MAX_REJECTED_BYTES] if rejection.reason == "too_large" else values[i]
            records.append(("", encode_dead_letter(RejectedEvent(-1, i, rejection, raw), None)))
        if records:
            self._writer.append_later(DEAD_LETTER, records)
