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
from stream.logs import EventLog, Overtaken, Position, Records
from stream.quarantine import quarantine
from stream.records.batches import ExampleBatch
from stream.records.dead_letters import Refused, dead_letter
from stream.records.decoding import Intake, take_in
from stream.records.events import Limits
from stream.records.example_blocks import Reach, claims, encode_examples
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, USERS
from stream.users.profiles import text_of
from stream.users.rate_limits import screen_of
from stream.users.table import UserTable
from stream.worker.partition import NO_WATERMARK, Partition, flush, parts
from stream.worker.recovery import Recovery
from stream.worker.retention import Retention
from stream.worker.user_updates import describe_people

_ROWS_PER_BLOCK = 512  # a block stays below a broker's usual limit of 1 MB
_BLOCKS = 32  # of a partition published at once
_PAUSE = 0.5  # seconds before a new start
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
        self._users = UserTable(store, settings.stream.cached_users, screen_of(settings.guard))
        self._recovery = Recovery(log, store, self._users, settings)
        self._source = log.source(EVENTS, "stream", revoked=self._revoked)
        self._partitions: dict[int, Partition] = {}
        self._name = f"{socket.gethostname()}:{os.getpid()}"  # beside what it commits: who has the partition

    def run(self, stop: Signal) -> None:
        """start → run → drain → stop: whole micro-batches until told to stop."""
        while not stop.is_set():
            begun, taken = time.monotonic(), 0
            try:
                taken = self.step(timeout=0.2)
                if self._retention:
                    self._retention.tend()
            except (Overtaken, ConnectionError) as error:
                _logger.warning("taking up all partitions once more: %s", error)
                self._start_over()
                stop.wait(_PAUSE)
            if taken < self._settings.stream.batch:
                # What comes first after a quiet time is taken at once, what comes thick and fast is taken together.
                stop.wait(max(0.0, begun + self._settings.stream.linger / 1000 - time.monotonic()))
        self.close()

    def step(self, timeout: float) -> int:
        """Take one micro-batch per partition; returns how many records there were."""
        batches = self._source.next_batch(self._settings.stream.batch, timeout)
        fresh = self._assign()
        # A partition that has just come is read again from where its recovery ended.
        batches = [records for records in batches if records.partition not in fresh]
        self._describe_users()
        if batches:
            with metrics.batch_seconds.time():
                self._take(batches)
        return sum(len(records) for records in batches)

    def close(self) -> None:
        self._source.close()

    def _start_over(self) -> None:
        """What is in memory may not be what is in log and store: the next step takes everything from there."""
        self._partitions.clear()
        self._users.forget_cache()

    def _take(self, batches: Sequence[Records]) -> None:
        published = {records.partition: self._work(records) for records in batches if len(records)}
        taken = [self._partitions[number] for number in published]
        self._publish({number: blocks for number, blocks in published.items() if blocks})
        metrics.users_flushed.inc(flush(self._users, [(partition, partition.reached) for partition in taken]))
        self._source.commit({partition.number: Position(partition.next, self._name) for partition in taken})
        ends = self._log.ends(EVENTS)
        for partition in taken:
            metrics.lag.labels(partition.number).set(ends[partition.number] - partition.next)

    def _publish(self, blocks: dict[int, list[bytes]]) -> None:
        """Append blocks, some at a time: few enough for a log to take them whole or not at all."""
        while blocks:
            some = {
                number: claims(self._partitions[number].examples, left[:_BLOCKS]) for number, left in blocks.items()
            }
            for number, first in self._log.append_many(EXAMPLES, some).items():
                meant = self._partitions[number].examples
                if first != meant:
                    told = f"a block of partition {number} stands at {first}, not at {meant}: another worker has it"
                    raise Overtaken(errno.ESTALE, told)
            for number in blocks:
                self._partitions[number].examples += len(some[number])
            blocks = {number: left[_BLOCKS:] for number, left in blocks.items() if left[_BLOCKS:]}

    def _work(self, records: Records) -> list[bytes]:
        """The blocks that these records come to; the caller publishes them."""
        partition = self._partitions[records.partition]
        intake = take_in(records, self._limits)
        self._bury(partition, intake.refused)
        first, partition.next = partition.next, records.offsets[-1] + 1
        watermark = Watermark(self._settings.stream.lateness, partition.watermark.ts)
        joined = self._apply(partition, intake)
        blocks: list[bytes] = []
        for start, next_, rows in parts(joined, first, partition.next, _ROWS_PER_BLOCK):
            # Each block's own watermark: the process may die when only some of them are published.
            mark = watermark.see(int(rows.ts.max())) if len(rows) else watermark.ts
            mark = NO_WATERMARK if mark is None else mark
            reach = Reach(partition.number, start, next_, partition.next, mark, partition.users)
            blocks.append(encode_examples(reach, rows))
        return blocks

    def _apply(self, partition: Partition, intake: Intake) -> ExampleBatch:
        """Skip repeats, let the users see the rest, hold back what is poison, join."""
        fresh = partition.seen.first_seen(intake.batch.event)
        rows = np.flatnonzero(fresh)
        metrics.events_repeated.inc(len(intake.batch) - rows.size)
        if self._settings.guard.enabled and (share := partition.repeats.see(intake.batch.ts, fresh)):
            raise_alarms(self._log, [_replayed(partition, share)])
        kept = intake.batch if rows.size == len(intake.batch) else intake.batch.take(rows)
        events = [intake.events[row] for row in rows.tolist()]
        applied = self._users.apply(kept, [text_of(event) for event in events], [event.user_id for event in events])
        for kind, count in zip(*np.unique(kept.type[applied.verdict == 0], return_counts=True), strict=True):
            metrics.count_events(int(kind), int(count))
        quarantine(self._log, partition.number, intake, rows, applied, partition.told)
        return partition.join(kept, applied)

    def _bury(self, partition: Partition, refused: Sequence[Refused]) -> None:
        """Send what could not be an event to dead-letter, but for what a crash left there already."""
        if not refused:
            return
        for one in refused:
            metrics.dead_letter.labels(one.refusal.reason).inc()
        letters = [one for one in refused if (one.offset, one.index) not in partition.buried]
        self._log.append(DEAD_LETTER, 0, [(None, dead_letter(one, partition.number)) for one in letters])

    def _describe_users(self) -> None:
        ends = self._log.ends(USERS) if self._partitions else {}
        for partition in self._partitions.values():
            describe_people(self._log, self._users, partition, ends[partition.number])

    def _revoked(self, partitions: frozenset[int]) -> None:
        for number in partitions:
            self._partitions.pop(number, None)
            for gauge in (metrics.lag, metrics.watermark, metrics.impressions_open):
                gauge.remove(number)  # whoever has the partition now speaks for it
        self._users.forget_cache()

    def _assign(self) -> set[int]:
        """Take up the partitions that came; returns them."""
        fresh = self._source.snapshot().keys() - self._partitions.keys()
        for number in sorted(fresh):
            self._users.forget_cache()
            partition = self._partitions[number] = self._recovery.take_up(number)
            self._source.seek(number, partition.next)
            self._source.commit({number: Position(partition.next, self._name)})
        return fresh


def _replayed(partition: Partition, share: float) -> Alarm:
    evidence = {
        "reason": "many events from long ago are sent once more: somebody replays a log, or lost their place in it",
        "partition": partition.number,
        "share": round(share, 3),
    }
    name, remedy = f"repeats-{partition.number}-{partition.next}", "none is needed: each event counts once"
    return Alarm(name, partition.repeats.latest, "stream", "poison", "repeats", evidence, remedy)
