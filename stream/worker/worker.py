"""Stream process: turn events into user state and examples."""

import errno
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from threading import Event as Signal

import numpy as np

from stream import metrics
from stream.alarms import Alarm, create_alarm_counters, raise_alarms
from stream.config import Settings
from stream.logs import EventLog, OwnershipLost, Position, Records
from stream.monitoring.heartbeat import Heartbeat
from stream.process.errors import describe_error
from stream.process.outages import OutageLog
from stream.quarantine import quarantine
from stream.records.content_hashes import batch_content_hashes
from stream.records.dead_letters import RejectedEvent
from stream.records.decoding import NO_RETRACTION, DecodedBatch, decode_records
from stream.records.events import CONFLICTING_EVENT_ID
from stream.records.example_blocks import keyed_blocks
from stream.records.item_ids import collect_ids
from stream.stores import UserStore
from stream.topics import EVENTS, EXAMPLES, USERS
from stream.users.merges import NO_OPERATION, OPERATION_ATTACH
from stream.users.rate_limits import DETECTORS, FORGOTTEN, RETRACTED, WITHOUT_CONSENT, rate_limits_from_settings
from stream.users.table import ApplyResult, UserTable
from stream.worker.clock_jumps import MAX_TIME_FALL_MS, split_at_time_falls
from stream.worker.continuity import GapReporter, fingerprint
from stream.worker.merges import write_merge_events
from stream.worker.partition import Partition, flush
from stream.worker.recovery import Recovery, event_limits
from stream.worker.rejections import RejectionReporter
from stream.worker.retention import Retention
from stream.worker.store_check import StoreCheck
from stream.worker.user_updates import apply_user_records

_BLOCKS_PER_APPEND = 32  # of each partition
_RESTART_DELAYS_S = (0.5, 0.5, 1.0, 2.0, 5.0)  # before the partitions start again, by consecutive failures
_POLL_TIMEOUT_S = 0.2
_logger = logging.getLogger(__name__)


class StreamWorker:
    """Process micro-batches of events so that every event counts once after any crash.

    The order of each micro-batch is:

    1. publish the examples; each block names the events that it covers, so the examples topic is this worker's journal
    2. write the changed users to the store, together with the watermark up to which they are complete
    3. commit that offset, for those who monitor the lag

    After a crash between 1 and 2, recovery applies the events to the users once more. Each user skips what was
    applied already, because it stores the offset of its last event; nothing is published again.

    Two workers can own a partition at the same time for a moment: for example, one that was stopped for longer than
    its session and wakes up in the middle of a micro-batch. This does no harm:

    - Each block has as its key the offset of the examples topic at which its writer expects it. Of two writers that
      expect the same offset, one gets it. The block of the other has another offset, so readers ignore it
      (`valid_blocks`). The offset that the append returns makes that writer restart the partition (`OwnershipLost`).
    - The watermark of the store moves only from where its writer left it. So one of the two writes the users, all of
      them; the other gets `OwnershipLost`. Both would have written the same, because the blocks before are the same.
    - The broker rejects a late commit. It would do no harm, because recovery uses the watermark of the store.
    - A worker whose name in the group another process has taken (`Fenced`) ends. Otherwise both would take the name
      from each other forever.

    The watermark also shows that a store has lost acknowledged writes, for example a Redis that restarted without its
    file. Then recovery rebuilds the users from the log, as far back as retention allows. `run` compares it each second,
    so that this does not wait for an event.
    """

    def __init__(self, log: EventLog, store: UserStore, settings: Settings, retention: Retention | None = None) -> None:
        self._log = log
        self._settings = settings
        self._retention = retention
        self._limits = event_limits(log, settings)
        self._rejections = RejectionReporter(log)
        self._gaps = GapReporter(log)
        self._max_lead_ms = round(settings.events.max_skew * 1000) + MAX_TIME_FALL_MS
        self._users = UserTable(store, settings.stream.cached_users, rate_limits_from_settings(settings.guard))
        self._store_check = StoreCheck(store)
        self._recovery = Recovery(log, store, self._users, settings, self._limits, self._rejections)
        self._source = log.open_source(EVENTS, "stream", on_revoke=self._on_revoke)
        self._partitions: dict[int, Partition] = {}
        self._owner_note = f"{socket.gethostname()}:{os.getpid()}"  # committed beside the offset: names the owner
        create_alarm_counters([("actor", "poison", detector) for detector in DETECTORS if detector])
        create_alarm_counters([("stream", "poison", "stale_duplicates")])

    def run(self, stop: Signal) -> None:
        """Process whole micro-batches until `stop` is set, then leave the group.

        While the log or the store is away, rejects writes or rejects the password, it waits and retries. A password
        that is wrong from the start ends it.
        """
        outage = OutageLog(_logger.warning, _logger.info)
        n_failures, has_worked = 0, False
        heartbeat = Heartbeat("stream")
        while not stop.is_set():
            start, n_records = time.monotonic(), 0
            try:
                n_records = self.step(_POLL_TIMEOUT_S)
                self._store_check.run_if_due(self._partitions.values())
                if self._retention:
                    self._retention.run_if_due()
                n_failures, has_worked = 0, has_worked or bool(self._partitions)
                outage.end("all partitions run again")
                heartbeat.beat()
            except (OwnershipLost, ConnectionError, PermissionError) as error:
                if isinstance(error, PermissionError) and not has_worked:
                    raise
                outage.report("restarting all partitions until it succeeds: %s", describe_error(error))
                self._reset()
                stop.wait(_RESTART_DELAYS_S[min(n_failures, len(_RESTART_DELAYS_S) - 1)])
                n_failures += 1
            if n_records < self._settings.stream.batch:
                # The first event after a pause is processed at once; during steady traffic, events wait for each other.
                stop.wait(max(0.0, start + self._settings.stream.linger / 1000 - time.monotonic()))
        self.close()

    def step(self, timeout: float) -> int:
        """Process one micro-batch per partition; returns the number of records."""
        batches = self._source.next_batch(self._settings.stream.batch, timeout)
        new_partitions = self._acquire_partitions()
        # A new partition is read again from the offset where its recovery ended.
        batches = [records for records in batches if records.partition not in new_partitions]
        self._apply_user_records()
        self._rejections.log_rates_if_due()
        batches = self._add_skipped(batches)
        if batches:
            with metrics.batch_duration_seconds.time():
                self._process_batches(batches)
        return sum(len(records) for records in batches)

    def close(self) -> None:
        self._source.close()

    def _add_skipped(self, batches: Sequence[Records]) -> list[Records]:
        """Add an empty batch for each partition that the source has moved on without records."""
        active = {records.partition for records in batches}
        skipped = [
            Records(number, [], [], [], [])
            for number, offset in self._source.snapshot().items()
            if number not in active and number in self._partitions and offset > self._partitions[number].next_offset
        ]
        return [*batches, *skipped]

    def _process_batches(self, batches: Sequence[Records]) -> None:
        """Process one micro-batch per partition, then publish, flush and commit, in this order."""
        positions = self._source.snapshot()
        blocks = {
            records.partition: [
                block
                for part in split_at_time_falls(records)
                for block in self._process_records(part, _next_offset(part, records, positions[records.partition]))
            ]
            for records in batches
        }
        partitions = [self._partitions[number] for number in blocks]
        self._publish(blocks)
        self._flush_users(partitions)
        self._commit(partitions)
        self._report_lag(partitions)

    def _process_records(self, records: Records, next_offset: int) -> list[bytes]:
        """Turn the records of one partition into blocks of examples, for `_publish`.

        There can be no records up to `next_offset`: the end of a transaction takes an offset.
        """
        partition = self._partitions[records.partition]
        if not len(records) or records.offsets[0] > partition.next_offset:
            self._gaps.report(partition.number, partition.next_offset)
        decoded = decode_records(records, self._limits)
        if not self._limits.max_age:
            self._rejections.warn_of_seconds(partition.number, decoded.batch.ts)
        new, conflicts = self._skip_duplicates(partition, decoded)
        rejected = [*decoded.rejected, *conflicts]
        if rejected:
            self._rejections.report(partition.number, rejected, partition.dead_lettered, records.times[-1])
        if len(records):
            partition.watermark.correct(records.times[0], self._max_lead_ms)
        start = partition.advance(next_offset, fingerprint(records))
        result = self._users.apply(new.batch, new.events, partition.number)
        _count_outcomes(new, result)
        quarantine(self._log, partition.number, new, result, partition.already_reported)
        write_merge_events(self._log, new, result)
        examples = partition.join(new.batch, result)
        ids_by_offsets = partial(collect_ids, new.batch, new.events, result.violation > 0)
        return partition.encode_blocks(start, examples, ids_by_offsets)

    def _skip_duplicates(
        self, partition: Partition, decoded: DecodedBatch
    ) -> tuple[DecodedBatch, Sequence[RejectedEvent]]:
        """Select the events whose event_id is new, and reject those whose id has another content.

        Many old duplicates raise an alarm.
        """
        contents = batch_content_hashes(decoded.batch)
        is_new, is_conflict = partition.deduplicator.check_and_add(decoded.batch.event, contents)
        rows, conflicts = np.flatnonzero(is_new), np.flatnonzero(is_conflict)
        metrics.events_duplicate.inc(is_new.size - rows.size - conflicts.size)
        if self._settings.guard.enabled:
            share = partition.stale_duplicates.update(decoded.batch.ts, is_new | is_conflict)
            if share:
                raise_alarms(self._log, [_stale_duplicates_alarm(partition, share)])
        new = decoded if rows.size == is_new.size else decoded.take(rows)
        return new, [decoded.reject(row, CONFLICTING_EVENT_ID) for row in conflicts.tolist()]

    def _publish(self, blocks: Mapping[int, Sequence[bytes]]) -> None:
        """Append blocks in chunks that are small enough for a log to append whole or not at all."""
        for first in range(0, max(map(len, blocks.values()), default=0), _BLOCKS_PER_APPEND):
            chunk = slice(first, first + _BLOCKS_PER_APPEND)
            self._append_blocks({number: part for number, b in blocks.items() if (part := b[chunk])})

    def _append_blocks(self, blocks: Mapping[int, Sequence[bytes]]) -> None:
        expected = {number: self._partitions[number].examples_end for number in blocks}
        records = {number: keyed_blocks(expected[number], part) for number, part in blocks.items()}
        for number, offset in self._log.append_many(EXAMPLES, records).items():
            if offset != expected[number]:
                message = (
                    f"a block of partition {number} got offset {offset}, expected {expected[number]}: "
                    "another worker has appended to this partition"
                )
                raise OwnershipLost(errno.ESTALE, message)
        for number, part in blocks.items():
            self._partitions[number].examples_end += len(part)

    def _flush_users(self, partitions: Sequence[Partition]) -> None:
        n_written = flush(self._users, [(partition, partition.reached_position) for partition in partitions])
        metrics.user_store_writes.inc(n_written)

    def _commit(self, partitions: Sequence[Partition]) -> None:
        self._source.commit({p.number: Position(p.next_offset, self._owner_note) for p in partitions})

    def _report_lag(self, partitions: Sequence[Partition]) -> None:
        ends = self._log.end_offsets(EVENTS)
        for partition in partitions:
            metrics.lag.labels(partition.number).set(ends[partition.number] - partition.next_offset)

    def _apply_user_records(self) -> None:
        ends = self._log.end_offsets(USERS) if self._partitions else {}
        for partition in self._partitions.values():
            apply_user_records(self._log, self._users, partition, ends[partition.number], self._rejections)

    def _acquire_partitions(self) -> set[int]:
        """Restore the partitions that the group has assigned since the last call; returns them."""
        new_partitions = self._source.snapshot().keys() - self._partitions.keys()
        for number in sorted(new_partitions):
            self._users.clear_cache()
            partition = self._partitions[number] = self._recovery.restore_partition(number)
            self._source.seek(number, partition.next_offset)
            self._commit([partition])
        return new_partitions

    def _on_revoke(self, partitions: frozenset[int]) -> None:
        for number in partitions:
            self._partitions.pop(number, None)
            for gauge in (metrics.lag, metrics.watermark, metrics.impressions_open):
                gauge.remove(number)  # the new owner reports it
        self._users.clear_cache()

    def _reset(self) -> None:
        """Forget all state in memory, which can be outdated; the next step restores it."""
        self._partitions.clear()
        self._users.clear_cache()


def _count_outcomes(decoded: DecodedBatch, result: ApplyResult) -> None:
    batch = decoded.batch
    n_refused = int(np.count_nonzero(result.violation == WITHOUT_CONSENT))
    metrics.events_without_consent.inc(decoded.n_without_consent + n_refused)
    is_retraction = batch.retraction != NO_RETRACTION
    is_counted = (result.violation == 0) & ~is_retraction & (result.operations.operation == NO_OPERATION)
    metrics.count_events(batch.type[is_counted])
    metrics.users_merged.inc(int(np.count_nonzero(result.operations.operation == OPERATION_ATTACH)))
    metrics.events_forgotten.inc(int(np.count_nonzero(result.violation == FORGOTTEN)))
    metrics.events_retracted.inc(int(np.count_nonzero(result.is_undone | (result.violation == RETRACTED))))
    metrics.retractions_waiting.inc(int(np.count_nonzero(is_retraction & ~result.is_undone & (result.violation == 0))))


def _next_offset(part: Records, records: Records, next_offset: int) -> int:
    """Offset after a part of some records, of which the last one ends at `next_offset`."""
    is_last = not len(records) or part.offsets[-1] == records.offsets[-1]
    return next_offset if is_last else part.offsets[-1] + 1


def _stale_duplicates_alarm(partition: Partition, share: float) -> Alarm:
    evidence = {
        "reason": "many duplicates of old events: a producer replays a log, or has lost its position in it",
        "partition": partition.number,
        "share": round(share, 3),
    }
    return Alarm(
        id=f"stale_duplicates-{partition.number}-{partition.next_offset}",
        ts=partition.stale_duplicates.latest_ts,
        depth="stream",
        kind="poison",
        detector="stale_duplicates",
        evidence=evidence,
        remedy="none is needed: each event counts once",
    )
