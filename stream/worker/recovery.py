"""Restore a partition from the user store, the examples topic and the events behind it."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np

from stream.clock import Watermark
from stream.config import Settings
from stream.deduplication import Deduplicator
from stream.logs import EventLog, Records
from stream.quarantine import reported_since
from stream.records.batches import ExampleBatch, Kind
from stream.records.decoding import decode_records
from stream.records.events import Limits
from stream.records.example_blocks import BlockRange, decode_examples, valid_blocks
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES
from stream.users.table import UserTable
from stream.worker.joiner import Joiner
from stream.worker.partition import NO_WATERMARK, Partition, StorePosition, flush
from stream.worker.user_updates import apply_user_records

_READ_SIZE = 4096
_BLOCKS_PER_READ = 32
_CLOCK_SKEW_MS = 60_000  # maximum difference between the clocks of two writers of the log
_logger = logging.getLogger(__name__)


class Recovery:
    """Restore partitions so that neither a crash nor a change of owner changes a result.

    The watermark of the store says which events its users contain, and where the examples topic ended then. The
    blocks published behind that end say how far the events were processed. Recovery applies the events in between to
    the users: one micro-batch after a crash, the whole log after the store lost everything.
    """

    def __init__(self, log: EventLog, store: UserStore, users: UserTable, settings: Settings) -> None:
        self._log = log
        self._store = store
        self._users = users
        self._settings = settings
        self._limits = Limits(settings.events.max_age, settings.events.max_skew)

    def restore_partition(self, number: int) -> Partition:
        """Claim a partition and restore its state; its users are complete afterwards."""
        position = StorePosition.parse(self._store.claim(number))
        end = self._log.end_offset(EXAMPLES, number)
        next_offset = self._first_unpublished(number, position, end)
        partition = Partition(
            number=number,
            next_offset=next_offset,
            next_users_offset=position.next_users_offset,
            watermark=Watermark(self._settings.stream.allowed_lateness),
            deduplicator=Deduplicator(self._settings.events.dedup_events),
            joiner=Joiner(self._settings.stream.attribution_window),
            dead_lettered=self._read_dead_lettered(number, next_offset),
            examples_end=end,
            store_position=position,
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
        next_offset = next_offset or self._log.start_offset(EVENTS, number)
        log_end = self._log.end_offset(EVENTS, number)
        if next_offset > log_end:
            raise ValueError(
                f"partition {number} of the events topic was processed up to offset {next_offset}, but the log ends at "
                f"{log_end}, so it was replaced: restore it, or choose other prefixes for log and store"
            )
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
        event_keys: list[np.ndarray] = []
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
                remaining -= event_keys[-1].size
            if remaining <= 0 and not is_in_window:
                break
        for keys in reversed(event_keys):
            partition.deduplicator.check_and_add(keys)
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
                apply_user_records(self._log, self._users, partition, block_range.next_users_offset)
        self._reapply_events(partition, partition.next_offset)
        flush(self._users, [(partition, partition.reached_position)])

    def _reapply_events(self, partition: Partition, end: int) -> None:
        while partition.store_position.next_offset < end:
            first = partition.store_position.next_offset
            records = self._log.read(EVENTS, partition.number, first, min(_READ_SIZE, end - first))
            records = _truncate_records(records, end)
            if len(records):
                decoded = decode_records(records, self._limits)
                new = decoded.take(np.flatnonzero(partition.deduplicator.check_and_add(decoded.batch.event)))
                self._users.apply(new.batch, new.events)
            position = replace(
                partition.store_position,
                next_offset=records.offsets[-1] + 1 if len(records) else end,
                next_users_offset=partition.next_users_offset,
            )
            flush(self._users, [(partition, position)])

    def _read_dead_lettered(self, number: int, offset: int) -> set[tuple[int, int]]:
        """Rejected events at or after an offset that a process dead-lettered before it died."""
        pending = self._log.read(EVENTS, number, offset, 1)
        if not len(pending):
            return set()
        dead_lettered = set()
        read_offset = self._log.offset_for_time(DEAD_LETTER, 0, pending.times[0] - _CLOCK_SKEW_MS)
        while len(letters := self._log.read(DEAD_LETTER, 0, read_offset, _READ_SIZE)):
            for letter in (msgspec.json.decode(value) for value in letters.values if value):
                if letter["partition"] == number and letter["offset"] >= offset:
                    dead_lettered.add((letter["offset"], letter["index"]))
            read_offset = letters.offsets[-1] + 1
        return dead_lettered


def _event_keys_before(batch: ExampleBatch, offset: int) -> np.ndarray:
    """Keys of the events below an offset.

    Later events become known when they are applied to the users.
    """
    is_event_row = np.isin(batch.kind, (Kind.shown, Kind.action, Kind.held))
    keys: np.ndarray = batch.event[is_event_row & (batch.offset < offset)]
    return keys


def _truncate_records(records: Records, offset: int) -> Records:
    """Drop the records at or above an offset."""
    n = int(np.searchsorted(np.array(records.offsets, np.int64), offset))
    return Records(records.partition, records.offsets[:n], records.keys[:n], records.values[:n], records.times[:n])
