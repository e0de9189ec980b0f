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
from serving.ingest.writes_under_way import WritesUnderWay
from serving.records import IngestResult, RefusedRecord, find_status
from stream import metrics as stream_metrics
from stream.clock import Clock
from stream.deduplication import Deduplicator
from stream.ids import NO_KEY, hash_id, hash_ids
from stream.logs import EventLog
from stream.process.errors import describe_error
from stream.process.outages import OutageLog
from stream.records.content_hashes import batch_content_hashes, event_content_hashes
from stream.records.dead_letters import RejectedEvent, encode_dead_letter
from stream.records.decoding import decode_records
from stream.records.events import CONFLICTING_EVENT_ID, MERGES, RETRACTIONS, Event, Limits, Rejection, parse, validate
from stream.records.timestamps import guess_time_unit
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS
from stream.users.profiles import EMPTY_PROFILE, Profile, decode_profile, has_action, refuses_consent

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

    Duplicates are found among the latest events of this process, those under way included, and in the user's record.
    The stream worker drops those that pass all: repeats of what another process has just accepted.
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
        self._store_outage = OutageLog(_logger.warning, _logger.info)
        self._pending_writes = pending_writes
        self._writes_under_way = WritesUnderWay()
        self._limits = limits
        self._clock = clock
        self._settings = settings or IngestSettings()
        self._next_warning_ms = 0
        self._deduplicator = Deduplicator(self._settings.dedup_events)
        for partition in range(log.partitions(EVENTS)):
            end, n_records = log.end_offset(EVENTS, partition), self._settings.tail_records
            tail = log.read(EVENTS, partition, max(0, end - n_records), n_records)
            batch = decode_records(tail, limits).batch
            self._deduplicator.check_and_add(batch.event, batch_content_hashes(batch))

    async def ingest(self, raws: Sequence[msgspec.Raw]) -> IngestResult:
        """Validate and append the events of one request; they are durable when this returns."""
        values = [bytes(raw) for raw in raws]
        events, rejections = self._validate(values)
        profiles = self._load_profiles(list(events.values()))
        n_refused = _drop_without_consent(events, profiles)
        await self._writes_under_way.wait(_event_keys(list(events.values())))
        self._reject_conflicts(events, rejections)
        is_new = self._find_new(list(events.values()), profiles)
        new_events = [(i, event) for (i, event), new in zip(events.items(), is_new, strict=True) if new]
        records = [(event.partition_key, values[i]) for i, event in new_events]
        self._dead_letter(rejections, values)
        with self._writes_under_way.claim(_event_keys([event for _, event in new_events])):
            if records:
                first_offsets = await self._writer.append(EVENTS, records)
                writes = [(event.partition_key, _acted_on(event)) for _, event in new_events]
                self._pending_writes.record(writes, first_offsets, self._clock.now_ms())
            # Only after the write: if it fails, a retry is not a duplicate.
            self._deduplicator.check_and_add(*_dedup_columns(list(events.values())))
        metrics.events_accepted.inc(len(events))
        warnings = self._find_suspect_times(list(events.values()))
        refused = [RefusedRecord(i, rejection.detail, rejection.reason) for i, rejection in sorted(rejections.items())]
        return IngestResult(
            len(events), len(events) - len(records), refused, find_status(len(events), len(refused)), warnings,
            n_refused,
        )  # fmt: skip

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

    def _reject_conflicts(self, events: dict[int, Event], rejections: dict[int, Rejection]) -> None:
        """Move events whose id is known with another content to the rejections.

        The stream worker finds those that this process has not seen, except in another partition.
        """
        conflicts = self._deduplicator.check(*_dedup_columns(list(events.values()))).is_conflict
        for i, is_conflict in zip(list(events), conflicts.tolist(), strict=True):
            if is_conflict:
                rejections[i] = CONFLICTING_EVENT_ID
                del events[i]

    def _find_new(self, events: Sequence[Event], profiles: Mapping[str, Profile]) -> list[bool]:
        """Return for each event if it is new; the stream worker makes the final decision."""
        is_duplicate = ~self._deduplicator.check(*_dedup_columns(events)).is_new
        return [
            not duplicate and not has_action(profiles.get(event.user, EMPTY_PROFILE), event)
            for event, duplicate in zip(events, is_duplicate, strict=True)
        ]

    def _load_profiles(self, events: Sequence[Event]) -> Mapping[str, Profile]:
        """Profiles of the events' users, by user id; empty if the store is unavailable."""
        users = sorted({event.user for event in events} - {""})
        try:
            records = zip(users, self._store.get_many(hash_ids(users)), strict=True)
            profiles = {user: decode_profile(value) for user, value in records if value is not None}
        except (OSError, ValueError, msgspec.DecodeError) as error:  # unavailable, or a record of another schema
            message = "cannot read the user store; the stream worker drops the duplicates: %s"
            self._store_outage.report(message, describe_error(error))
            metrics.fallbacks.labels("store").inc()
            return {}
        self._store_outage.end("the user store is readable again")
        return profiles

    def _dead_letter(self, rejections: Mapping[int, Rejection], values: Sequence[bytes]) -> None:
        records = []
        for i, rejection in sorted(rejections.items()):
            stream_metrics.dead_letter.labels(rejection.reason).inc()
            raw = values[i][: self._settings.max_rejected_bytes] if rejection.reason == "too_large" else values[i]
            records.append(("", encode_dead_letter(RejectedEvent(-1, i, rejection, raw), None)))
        if records:
            self._writer.append_later(DEAD_LETTER, records)


def _drop_without_consent(events: dict[int, Event], profiles: Mapping[str, Profile]) -> int:
    """Drop the events that do not consent, or whose user does not; returns their number."""
    dropped = [
        i
        for i, event in events.items()
        if not event.consent or refuses_consent(profiles.get(event.user, EMPTY_PROFILE).attributes)
    ]
    for i in dropped:
        del events[i]
    stream_metrics.events_without_consent.inc(len(dropped))
    return len(dropped)


def _acted_on(event: Event) -> int:
    """Key of the item of an action; NO_KEY for an impression or a retraction."""
    is_action = event.type != "impression" and event.type not in RETRACTIONS and event.type not in MERGES
    return hash_id(event.item_id) if is_action and event.item_id else NO_KEY


def _event_keys(events: Sequence[Event]) -> list[int]:
    keys: list[int] = hash_ids([event.event_id for event in events]).tolist()
    return keys


def _dedup_columns(events: Sequence[Event]) -> tuple[np.ndarray, np.ndarray]:
    """Keys of event ids and content hashes, as `Deduplicator` takes them."""
    return hash_ids([event.event_id for event in events]), event_content_hashes(events)
