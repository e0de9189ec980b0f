"""The stream process: events in, user state and examples out."""

import errno
import logging
import os
import socket
import time
from collections.abc import Sequence
from threading import Event as Signal

import numpy as np

from stream import metrics
from stream.alarms import Alarm, raise_alarms
from stream.clock import Watermark
from stream.config import Settings
from stream.logs import EventLog, OwnershipLost, Position, Records
from stream.quarantine import quarantine
from stream.records.batches import ExampleBatch
from stream.records.dead_letters import RejectedEvent, encode_dead_letter
from stream.records.decoding import DecodedBatch, decode_records
from stream.records.events import Limits
from stream.records.example_blocks import BlockRange, encode_examples, keyed_blocks
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, USERS
from stream.users.profiles import history_line
from stream.users.rate_limits import rate_limits_from_settings
from stream.users.table import UserTable
from stream.worker.partition import NO_WATERMARK, Partition, flush, split_blocks
from stream.worker.recovery import Recovery
from stream.worker.retention import Retention
from stream.worker.user_updates import apply_user_records

_ROWS_PER_BLOCK = 512  # a block stays below a broker's usual limit of 1 MB
_BLOCKS_PER_APPEND = 32  # of a partition published at once
_RESTART_DELAY_S = 0.5  # seconds before a new start
_logger = logging.getLogger(__name__)


class StreamWorker:
    """Takes micro-batches of events. The order of each makes every event count once, whenever the process dies:

    1. publish the examples; each block says which events it covers, so the examples topic is this worker's journal
    2. write the changed users to the store, together with the mark that says up to which event they are complete
    3. commit that offset, for whoever watches the lag

    After a crash between 1 and 2 the events are applied to the users once more, where their offsets pass over what
    was applied already, and nothing is published again.

    Two workers may for a moment both believe to have a partition: one that was stopped for longer than its session,
    say, and wakes up in the middle of a micro-batch. It can do no harm:

    - Each block says at which offset of the examples topic its writer means it to stand. Of two writers that mean the
      same offset one gets it; the block of the other stands elsewhere, where it counts for nobody (`sound_blocks`),
      and the offset that the append returns tells its writer to take up the partition again (`Overtaken`).
    - The mark moves only from where its writer left it. So users are stored by one of them, as a whole; to the other
      the store says that it was overtaken. Both would have written the same, as the blocks before it are the same.
    - A late commit is refused by the broker, and would do no harm, since a recovery goes by the mark.
    - One whose name in the group another process has taken (`Fenced`) ends, or both would take it back for ever.

    The same mark tells that a store has lost what was acknowledged, as a Redis started again without its file: then
    the users are made once more out of the log, as far back as it is kept.
    """

    def __init__(self, log: EventLog, store: UserStore, settings: Settings, retention: Retention | None = None) -> None:
        self._log = log
        self._settings = settings
        self._retention = retention
        self._limits = Limits(settings.events.max_age, settings.events.max_skew)
        self._users = UserTable(store, settings.stream.cached_users, rate_limits_from_settings(settings.guard))
        self._recovery = Recovery(log, store, self._users, settings)
        self._source = log.open_source(EVENTS, "stream", on_revoke=self._on_revoke)
        self._partitions: dict[int, Partition] = {}
        self._owner_note = f"{socket.gethostname()}:{os.getpid()}"  # beside what it commits: who has the partition

    def run(self, stop: Signal) -> None:
        """start → run → drain → stop: whole micro-batches until told to stop."""
        while not stop.is_set():
            start, n_records = time.monotonic(), 0
            try:
                n_records = self.step(timeout=0.2)
                if self._retention:
                    self._retention.run_if_due()
            except (OwnershipLost, ConnectionError) as error:
                _logger.warning("taking up all partitions once more: %s", error)
                self._reset()
                stop.wait(_RESTART_DELAY_S)
            if n_records < self._settings.stream.batch:
                # What comes first after a quiet time is taken at once, what comes thick and fast is taken together.
                stop.wait(max(0.0, start + self._settings.stream.linger / 1000 - time.monotonic()))
        self.close()

    def step(self, timeout: float) -> int:
        """Take one micro-batch per partition; returns how many records there were."""
        batches = self._source.next_batch(self._settings.stream.batch, timeout)
        new_partitions = self._acquire_partitions()
        # A partition that has just come is read again from where its recovery ended.
        batches = [records for records in batches if records.partition not in new_partitions]
        self._apply_user_records()
        if batches:
            with metrics.batch_duration_seconds.time():
                self._process_batches(batches)
        return sum(len(records) for records in batches)

    def close(self) -> None:
        self._source.close()

    def _reset(self) -> None:
        """What is in memory may not be what is in log and store: the next step takes everything from there."""
        self._partitions.clear()
        self._users.clear_cache()

    def _process_batches(self, batches: Sequence[Records]) -> None:
        blocks_by_partition = {records.partition: self._process_records(records) for records in batches if len(records)}
        partitions = [self._partitions[number] for number in blocks_by_partition]
        self._publish({number: blocks for number, blocks in blocks_by_partition.items() if blocks})
        metrics.user_store_writes.inc(
            flush(self._users, [(partition, partition.reached_position) for partition in partitions])
        )
        self._source.commit(
            {partition.number: Position(partition.next_offset, self._owner_note) for partition in partitions}
        )
        ends = self._log.end_offsets(EVENTS)
        for partition in partitions:
            metrics.lag.labels(partition.number).set(ends[partition.number] - partition.next_offset)

    def _publish(self, blocks: dict[int, list[bytes]]) -> None:
        """Append blocks, some at a time: few enough for a log to take them whole or not at all."""
        while blocks:
            chunk = {
                number: keyed_blocks(self._partitions[number].examples_end, remaining[:_BLOCKS_PER_APPEND])
                for number, remaining in blocks.items()
            }
            for number, first in self._log.append_many(EXAMPLES, chunk).items():
                expected = self._partitions[number].examples_end
                if first != expected:
                    message = (
                        f"a block of partition {number} stands at {first}, not at {expected}: another worker has it"
                    )
                    raise OwnershipLost(errno.ESTALE, message)
            for number in blocks:
                self._partitions[number].examples_end += len(chunk[number])
            blocks = {
                number: remaining[_BLOCKS_PER_APPEND:]
                for number, remaining in blocks.items()
                if remaining[_BLOCKS_PER_APPEND:]
            }

    def _process_records(self, records: Records) -> list[bytes]:
        """The blocks that these records come to; the caller publishes them."""
        partition = self._partitions[records.partition]
        decoded_batch = decode_records(records, self._limits)
        self._dead_letter(partition, decoded_batch.rejected)
        first, partition.next_offset = partition.next_offset, records.offsets[-1] + 1
        watermark = Watermark(self._settings.stream.allowed_lateness, partition.watermark.ts)
        examples = self._apply(partition, decoded_batch)
        blocks: list[bytes] = []
        for start, end, rows in split_blocks(examples, first, partition.next_offset, _ROWS_PER_BLOCK):
            # Each block's own watermark: the process may die when only some of them are published.
            watermark_ts = watermark.update(int(rows.ts.max())) if len(rows) else watermark.ts
            watermark_ts = NO_WATERMARK if watermark_ts is None else watermark_ts
            block_range = BlockRange(
                partition.number, start, end, partition.next_offset, watermark_ts, partition.next_users_offset
            )
            blocks.append(encode_examples(block_range, rows))
        return blocks

    def _apply(self, partition: Partition, decoded_batch: DecodedBatch) -> ExampleBatch:
        """Skip repeats, let the users see the rest, hold back what is poison, join."""
        is_new = partition.deduplicator.check_and_add(decoded_batch.batch.event)
        rows = np.flatnonzero(is_new)
        metrics.events_duplicate.inc(len(decoded_batch.batch) - rows.size)
        if self._settings.guard.enabled and (
            share := partition.stale_duplicates.update(decoded_batch.batch.ts, is_new)
        ):
            raise_alarms(self._log, [_stale_duplicates_alarm(partition, share)])
        new_batch = decoded_batch.batch if rows.size == len(decoded_batch.batch) else decoded_batch.batch.take(rows)
        events = [decoded_batch.events[row] for row in rows.tolist()]
        result = self._users.apply(
            new_batch, [history_line(event) for event in events], [event.user_id for event in events]
        )
        for kind, count in zip(*np.unique(new_batch.type[result.violation == 0], return_counts=True), strict=True):
            metrics.count_events(int(kind), int(count))
        quarantine(self._log, partition.number, decoded_batch, rows, result, partition.already_reported)
        return partition.join(new_batch, result)

    def _dead_letter(self, partition: Partition, rejected: Sequence[RejectedEvent]) -> None:
        """Send what could not be an event to dead-letter, but for what a crash left there already."""
        if not rejected:
            return
        for event in rejected:
            metrics.dead_letter.labels(event.rejection.reason).inc()
        unreported = [event for event in rejected if (event.offset, event.index) not in partition.dead_lettered]
        self._log.append(DEAD_LETTER, 0, [(None, encode_dead_letter(event, partition.number)) for event in unreported])

    def _apply_user_records(self) -> None:
        ends = self._log.end_offsets(USERS) if self._partitions else {}
        for partition in self._partitions.values():
            apply_user_records(self._log, self._users, partition, ends[partition.number])

    def _on_revoke(self, partitions: frozenset[int]) -> None:
        for number in partitions:
            self._partitions.pop(number, None)
            for gauge in (metrics.lag, metrics.watermark, metrics.impressions_open):
                gauge.remove(number)  # whoever has the partition now speaks for it
        self._users.clear_cache()

    def _acquire_partitions(self) -> set[int]:
        """Take up the partitions that came; returns them."""
        new_partitions = self._source.snapshot().keys() - self._partitions.keys()
        for number in sorted(new_partitions):
            self._users.clear_cache()
            partition = self._partitions[number] = self._recovery.restore_partition(number)
            self._source.seek(number, partition.next_offset)
            self._source.commit({number: Position(partition.next_offset, self._owner_note)})
        return new_partitions


def _stale_duplicates_alarm(partition: Partition, share: float) -> Alarm:
    evidence = {
        "reason": "many events from long ago are sent once more: somebody replays a log, or lost their place in it",
        "partition": partition.number,
        "share": round(share, 3),
    }
    alarm_id, remedy = (
        f"stale_duplicates-{partition.number}-{partition.next_offset}",
        "none is needed: each event counts once",
    )
    return Alarm(
        alarm_id, partition.stale_duplicates.latest_ts, "stream", "poison", "stale_duplicates", evidence, remedy
    )
