"""Restore a partition from the user store, the examples topic and the events behind it."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np

from stream.clock import Watermark
from stream.config import Settings
from stream.deduplication import Deduplicator
from stream.logs import EventLog
from stream.quarantine import reported_since
from stream.records.batches import EVENT_KINDS, ExampleBatch
from stream.records.content_hashes import batch_content_hashes, example_content_hashes
from stream.records.decoding import decode_records
from stream.records.events import Limits
from stream.records.example_blocks import BlockRange, decode_examples, valid_blocks
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, USERS
from stream.users.table import UserTable
from stream.worker.continuity import GapReporter, check_continuity, fingerprint, short_topic_id
from stream.worker.joiner import Joiner
from stream.worker.partition import NO_WATERMARK, Partition, flush
from stream.worker.rejections import RejectionReporter
from stream.worker.store_position import StorePosition
from stream.worker.user_updates import apply_user_records

_READ_SIZE = 4096
_BLOCKS_PER_READ = 32
_CLOCK_SKEW_MS = 60_000  # maximum difference between the clocks of two writers of the log
_logger = logging.getLogger(__name__)


def event_limits(log: EventLog, settings: Settings) -> Limits:
    """Limits of the events topic."""
    events = settings.events
    return Limits(
        events.max_age, events.max_skew, disliked_stars=events.disliked_stars, partitions=log.partitions(EVENTS)
    )


class Recovery:
    """Restore partitions so that neither a crash nor a change of owner changes a result.

    The watermark of the store says which events its users contain, and where the examples topic ended then. The
    blocks published behind that end say how far the events were processed. Recovery applies the events in between to
    the users: one micro-batch after a crash, the whole log after the store lost everything.
    """

    def __init__(
        self,
        log: EventLog,
        store: UserStore,
        users: UserTable,
        settings: Settings,
        limits: Limits,
        rejections: RejectionReporter,
    ) -> None:
        self._log = log
        self._store = store
        self._users = users
        self._settings = settings
        self._limits = limits
        self._rejections = rejections
        self._gaps = GapReporter(log)

    def restore_partition(self, number: int) -> Partition:
        """Claim a partition and restore its state; its users are complete afterwards."""
        position = StorePosition.parse(self._store.claim(number))
        check_continuity(self._log, number, position)
        end = self._log.end_offset(EXAMPLES, number)
        next_offset = self._first_unpublished(number, position, end)
        partition = Partition(
            number=number,
            next_offset=next_offset,
            next_users_offset=position.next_users_offset,
            watermark=Watermark(self._settings.stream.allowed_lateness),
            deduplicator=Deduplicator(self._settings.events.dedup_events),
            joiner=Joiner(self._settings.stream.attribution_window),
            dead_lettered=self._read_dead_lettered(EVENTS, number, next_offset),
            dead_lettered_users=self._read_dead_lettered(USERS, number, position.next_users_offset),
            examples_end=end,
            store_position=position,
            topic_id=short_topic_id(self._log),
            fingerprint=position.fingerprint if position.next_offset == next_offset else "",
            already_reported=reported_since(self._log, number, next_offset),
        )
        self._restore_from_blocks(partition)
        self._reapply_users(partition)
        message = "restored partition %d: next event %d, users were stored up to %d"
        _logger.info(message, number, next_offset, position.next_offset)
        return partition

    def _first_unpublished(self, number: int, position: StorePosition, end: int) -> int:
        """Offset of the first event that is neither published nor stored."""
        blocks = self._read_blocks(number, position.examples_end, end)
        next_offset = max([position.next_offset, *(block_range.next_offset for block_range, _ in blocks)])
        self._gaps.report_lost_users(number, position.next_offset, next_offset)
        next_offset = self._gaps.report(number, next_offset) if next_offset else self._log.start_offset(EVENTS, number)
        log_end = self._log.end_offset(EVENTS, number)
        if next_offset > log_end:
            check_continuity(self._log, number, StorePosition(next_offset))
        return next_offset

    def _read_blocks(self, number: int, first: int, end: int) -> Iterator[tuple[BlockRange, ExampleBatch]]:
        """Published blocks in a range of offsets of the examples topic, oldest first."""
        while first < end:
            records = self._log.read(EXAMPLES, number, first, min(_BLOCKS_PER_READ, end - first))
            if not len(records):
                return
            yield from map(decode_examples, valid_blocks(records))
            first = records.offsets[-1] + 1

    def _read_blocks_reversed(self, number: int, end: int) -> Iterator[tuple[BlockRange, ExampleBatch]]:
        """Published blocks below an offset of the examples topic, newest first."""
        start = self._log.start_offset(EXAMPLES, number)
        while end > start:
            first = max(start, end - _BLOCKS_PER_READ)
            yield from reversed(list(self._read_blocks(number, first, end)))
            end = first

    def _restore_from_blocks(self, partition: Partition) -> None:
        """Restore the watermark, the known event ids and the open impressions from published blocks."""
        remaining = self._settings.events.dedup_events
        event_keys: list[tuple[np.ndarray, np.ndarray]] = []
        recent_batches: list[ExampleBatch] = []
        is_in_window = False  # the block can contain impressions that are still open
        for block_range, batch in self._read_blocks_reversed(partition.number, partition.examples_end):
            if not event_keys and block_range.watermark != NO_WATERMARK:
                partition.watermark.ts, is_in_window = block_range.watermark, True
            if is_in_window:
                recent_batches.append(batch)
                is_in_window = block_range.watermark >= self._horizon(partition)
            if remaining > 0:
                event_keys.append(_event_keys_before(batch, partition.store_position.next_offset))
                remaining -= event_keys[-1][0].size
            if remaining <= 0 and not is_in_window:
                break
        for keys, contents in reversed(event_keys):
            partition.deduplicator.check_and_add(keys, contents)
        for batch in reversed(recent_batches):
            partition.joiner.restore(batch)

    def _horizon(self, partition: Partition) -> int:
        """Event time, ms, before which every impression is closed."""
        settings = self._settings.stream
        return (partition.watermark.ts or 0) - round((settings.attribution_window + settings.allowed_lateness) * 1000)

    def _reapply_users(self, partition: Partition) -> None:
        """Apply published but unstored events and user records, in their original order."""
        first, end = partition.store_position.examples_end, partition.examples_end
        for block_range, _ in self._read_blocks(partition.number, first, end):
            if block_range.next_users_offset > partition.next_users_offset:
                self._reapply_events(partition, min(block_range.first_offset, partition.next_offset))
                apply_user_records(self._log, self._users, partition, block_range.next_users_offset, self._rejections)
        self._reapply_events(partition, partition.next_offset)
        flush(self._users, [(partition, partition.reached_position)])

    def _reapply_events(self, partition: Partition, end: int) -> None:
        while partition.store_position.next_offset < end:
            first = partition.store_position.next_offset
            records = self._log.read(EVENTS, partition.number, first, min(_READ_SIZE, end - first))
            records = records.before(end)
            if len(records):
                decoded = decode_records(records, self._limits)
                contents = batch_content_hashes(decoded.batch)
                check = partition.deduplicator.check_and_add(decoded.batch.event, contents)
                new = decoded.take(np.flatnonzero(check.is_new))
                self._users.apply(new.batch, new.events, partition.number)
            position = replace(
                partition.store_position,
                next_offset=records.offsets[-1] + 1 if len(records) else end,
                next_users_offset=partition.next_users_offset,
                topic_id=partition.topic_id,
                fingerprint=fingerprint(records),
                stored_text="",
            )
            partition.fingerprint = position.fingerprint if position.next_offset == partition.next_offset else ""
            flush(self._users, [(partition, position)])

    def _read_dead_lettered(self, topic: str, number: int, offset: int) -> set[tuple[int, int]]:
        """Rejected records at or after an offset that a process dead-lettered before it died."""
        pending = self._log.read(topic, number, offset, 1)
        if not len(pending):
            return set()
        dead_lettered = set()
        read_offset = self._log.offset_for_time(DEAD_LETTER, 0, pending.times[0] - _CLOCK_SKEW_MS)
        while len(letters := self._log.read(DEAD_LETTER, 0, read_offset, _READ_SIZE)):
            for letter in (msgspec.json.decode(value) for value in letters.values if value):
                is_same_topic = letter.get("topic", EVENTS) == topic and letter["partition"] == number
                if is_same_topic and letter["offset"] >= offset:
                    dead_lettered.add((letter["offset"], letter["index"]))
            read_offset = letters.offsets[-1] + 1
        return dead_lettered


def _event_keys_before(batch: ExampleBatch, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and content hashes of the events below an offset.

    Later events become known when they are applied to the users.
    """
    rows = np.flatnonzero(np.isin(batch.kind, EVENT_KINDS) & (batch.offset < offset))
    return batch.event[rows], example_content_hashes(batch)[rows]
