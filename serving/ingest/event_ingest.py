"""Accept events over HTTP: the response comes when they are durable in the log."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from serving import metrics
from serving.ingest.group_commit import GroupCommitWriter
from serving.ingest.json_bodies import find_invalid_field
from serving.ingest.pending_writes import PendingWrites
from serving.records import IngestResult, RefusedRecord, find_status
from stream import metrics as stream_metrics
from stream.clock import Clock
from stream.deduplication import Deduplicator
from stream.ids import NO_KEY, hash_id, hash_ids
from stream.logs import EventLog
from stream.records.dead_letters import RejectedEvent, encode_dead_letter
from stream.records.decoding import decode_records
from stream.records.events import Event, Limits, Rejection, guess_time_unit, parse, validate
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS
from stream.users.profiles import decode_profile

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Memory of the ingest."""

    dedup_events: int = 200_000  # event ids in which this process finds duplicates
    tail_records: int = 20_000  # records per partition that are read at startup to fill them
    warning_interval_ms: int = 60_000  # between log lines about suspect times
    max_rejected_bytes: int = 1024  # bytes kept of an event that is too large, or of a body that is not JSON


class EventIngest:
    """Validate events, drop duplicates, and append the rest to the log.

    Duplicates are found among the latest events of this process and in the user's record. The stream worker drops
    those that pass both.
    """

    def __init__(
        self,
        log: EventLog,
        store: UserStore,
        writer: GroupCommitWriter,
        pending_writes: PendingWrites,
        limits: Limits,
        clock: Clock,
        settings: IngestSettings | None = None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._pending_writes = pending_writes
        self._limits = limits
        self._clock = clock
        self._settings = settings or IngestSettings()
        self._next_warning_ms = 0
        self._deduplicator = Deduplicator(self._settings.dedup_events)
        for partition in range(log.partitions(EVENTS)):
            end, n_records = log.end_offset(EVENTS, partition), self._settings.tail_records
            tail = log.read(EVENTS, partition, max(0, end - n_records), n_records)
            self._deduplicator.check_and_add(decode_records(tail, limits).batch.event)

    async def ingest(self, raws: Sequence[msgspec.Raw]) -> IngestResult:
        """Validate and append the events of one request; they are durable when this returns."""
        values = [bytes(raw) for raw in raws]
        events, rejections = self._validate(values)
        is_new = self._find_new(list(events.values()))
        new_events = [(i, event) for (i, event), new in zip(events.items(), is_new, strict=True) if new]
        records = [(event.user_id, values[i]) for i, event in new_events]
        self._dead_letter(rejections, values)
        if records:
            first_offsets = await self._writer.append(EVENTS, records)
            writes = [(event.user_id, _acted_on(event)) for _, event in new_events]
            self._pending_writes.record(writes, first_offsets, self._clock.now_ms())
        # Only after the write: if it fails, a retry is not a duplicate.
        self._deduplicator.check_and_add(hash_ids([event.event_id for event in events.values()]))
        metrics.events_accepted.inc(len(events))
        warnings = self._find_suspect_times(list(events.values()))
        refused = [RefusedRecord(i, rejection.detail, rejection.reason) for i, rejection in sorted(rejections.items())]
        return IngestResult(
            len(events), len(events) - len(records), refused, find_status(len(events), len(refused)), warnings
        )

    def _find_suspect_times(self, events: Sequence[Event]) -> list[str]:
        """Warn of accepted times that look like seconds; without an age limit they are valid."""
        if self._limits.max_age:
            return []
        suspects = [event for event in events if guess_time_unit(event.ts)]
        if not suspects:
            return []
        first = suspects[0]
        warning = (
            f"{len(suspects)} of {len(events)} events have a ts that looks like {guess_time_unit(first.ts)}, such as"
            f" {first.ts}; ts is in milliseconds since 1970"
        )
        if (now := self._clock.now_ms()) >= self._next_warning_ms:
            self._next_warning_ms = now + self._settings.warning_interval_ms
            _logger.warning("%s; they are accepted, since events.max_age is 0", warning)
        return [warning]

    def reject_body(self, body: bytes, detail: str) -> None:
        """Write a body that is not JSON to the dead-letter topic."""
        self._dead_letter({0: Rejection("not_json", detail)}, [body[: self._settings.max_rejected_bytes]])

    def _validate(self, values: Sequence[bytes]) -> tuple[dict[int, Event], dict[int, Rejection]]:
        """Valid events and rejections, by index in the request."""
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
            detail = f"the event has {len(value)} bytes; expected at most {self._limits.max_bytes}"
            return Rejection("too_large", detail)
        result = parse(value)
        if isinstance(result, Rejection) and result.reason == "not_json":
            invalid_field = find_invalid_field(value)
            return Rejection(*invalid_field) if invalid_field else result
        return result

    def _find_new(self, events: Sequence[Event]) -> list[bool]:
        """Return for each event if it is new; the stream worker makes the final decision."""
        keys = hash_ids([event.event_id for event in events])
        is_duplicate = self._deduplicator.contains(keys)
        if keys.size > 1:
            is_repeated = np.ones(keys.size, np.bool_)
            is_repeated[np.unique(keys, return_index=True)[1]] = False
            is_duplicate |= is_repeated
        candidates = [event for event, duplicate in zip(events, is_duplicate, strict=True) if not duplicate]
        history_texts = self._load_history_texts(candidates)
        return [
            not duplicate and f"\t{event.event_id}\n".encode() not in history_texts.get(event.user_id, b"")
            for event, duplicate in zip(events, is_duplicate, strict=True)
        ]

    def _load_history_texts(self, events: Sequence[Event]) -> Mapping[str, bytes]:
        """Encoded history of the events' users, by user id; empty if the store is unavailable."""
        users = sorted({event.user_id for event in events})
        try:
            records = zip(users, self._store.get_many(hash_ids(users)), strict=True)
            return {user: decode_profile(value).text for user, value in records if value is not None}
        except (OSError, ValueError, msgspec.DecodeError) as error:  # unavailable, or a record of another schema
            _logger.warning("cannot read the user store; the stream worker drops the duplicates: %s", error)
            metrics.fallbacks.labels("store").inc()
            return {}

    def _dead_letter(self, rejections: Mapping[int, Rejection], values: Sequence[bytes]) -> None:
        records = []
        for i, rejection in sorted(rejections.items()):
            stream_metrics.dead_letter.labels(rejection.reason).inc()
            raw = values[i][: self._settings.max_rejected_bytes] if rejection.reason == "too_large" else values[i]
            records.append(("", encode_dead_letter(RejectedEvent(-1, i, rejection, raw), None)))
        if records:
            self._writer.append_later(DEAD_LETTER, records)


def _acted_on(event: Event) -> int:
    """Key of the item of an action; NO_KEY for an impression."""
    return NO_KEY if event.type == "impression" or not event.item_id else hash_id(event.item_id)
