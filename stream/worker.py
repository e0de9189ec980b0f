"""The stream process: events in, user state and examples out."""

import logging
from collections.abc import Sequence
from threading import Event as Signal

import msgspec
import numpy as np

from stream import metrics
from stream.batches import ExampleBatch, Kind
from stream.clock import Watermark
from stream.config import Settings
from stream.events import Limits
from stream.ids import keys_of
from stream.intake import Intake, Refused, take_in
from stream.joiner import Joiner
from stream.logs import EventLog, Position, Record, Records
from stream.partition import NO_WATERMARK, Partition, parts
from stream.profiles import person_fault, text_of
from stream.quarantine import BARRED, bar_in, left_behind, quarantine
from stream.retention import Retention
from stream.screens import screen_of
from stream.seen import SeenEvents
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, USERS, Reach, decode_examples, encode_examples
from stream.users import UserTable

_ROWS_PER_BLOCK = 512  # a block stays below a broker's usual limit of 1 MB
_READ = 4096
_SLACK = 60_000  # ms by which the clocks of two writers of the log may differ
_logger = logging.getLogger(__name__)


class StreamWorker:
    """Takes micro-batches of events. The order of each makes every event count once, whenever the process dies:

    1. publish the examples; each block says which events it covers, so the examples topic is this worker's journal
    2. write the changed users to the store, each with the offset of the last event applied
    3. commit the offset up to which the store is complete

    After a crash between 1 and 2 the events are applied to the users once more, where their offsets pass over what
    was applied already, and nothing is published again.
    """

    def __init__(self, log: EventLog, store: UserStore, settings: Settings, retention: Retention | None = None) -> None:
        self._log = log
        self._settings = settings
        self._retention = retention
        self._limits = Limits(settings.events.max_age, settings.events.max_skew)
        self._users = UserTable(store, settings.stream.cached_users, screen_of(settings.guard))
        self._source = log.source(EVENTS, "stream", revoked=self._revoked)
        self._partitions: dict[int, Partition] = {}

    def run(self, stop: Signal) -> None:
        """start → run → drain → stop: whole micro-batches until told to stop."""
        while not stop.is_set():
            self.step(timeout=0.2)
            if self._retention:
                self._retention.tend()
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
        self._users.flush()
        self._source.close()

    def _take(self, batches: Sequence[Records]) -> None:
        published = {records.partition: self._work(records) for records in batches if len(records)}
        self._log.append_many(EXAMPLES, {number: blocks for number, blocks in published.items() if blocks})
        metrics.users_flushed.inc(self._users.flush())
        self._source.commit({number: self._position(number) for number in published})
        for number in published:
            metrics.lag.labels(number).set(self._log.end(EVENTS, number) - self._partitions[number].next)

    def _position(self, number: int) -> Position:
        partition = self._partitions[number]
        return Position(partition.next, str(partition.users))

    def _work(self, records: Records) -> list[Record]:
        """The blocks that these records come to; the caller publishes them."""
        partition = self._partitions[records.partition]
        intake = take_in(records, self._limits)
        self._bury(partition, intake.refused)
        first, partition.next = partition.next, records.offsets[-1] + 1
        watermark = Watermark(self._settings.stream.lateness, partition.watermark.ts)
        joined = self._apply(partition, intake)
        blocks: list[Record] = []
        for start, next_, rows in parts(joined, first, partition.next, _ROWS_PER_BLOCK):
            # Each block's own watermark: the process may die when only some of them are published.
            mark = watermark.see(int(rows.ts.max())) if len(rows) else watermark.ts
            mark = NO_WATERMARK if mark is None else mark
            reach = Reach(partition.number, start, next_, partition.next, mark, partition.users)
            blocks.append((None, encode_examples(reach, rows)))
        return blocks

    def _apply(self, partition: Partition, intake: Intake) -> ExampleBatch:
        """Skip repeats, let the users see the rest, hold back what is poison, join."""
        fresh = partition.seen.first_seen(intake.batch.event)
        rows = np.flatnonzero(fresh)
        metrics.events_repeated.inc(len(intake.batch) - rows.size)
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

    def _buried_from(self, number: int, offset: int) -> set[tuple[int, int]]:
        """Refusals at or after an offset that stand in dead-letter already, since a process died behind them."""
        waiting = self._log.read(EVENTS, number, offset, 1)
        if not len(waiting):
            return set()
        buried = set()
        at = self._log.find_time(DEAD_LETTER, 0, waiting.times[0] - _SLACK)
        while len(letters := self._log.read(DEAD_LETTER, 0, at, _READ)):
            for letter in (msgspec.json.decode(value) for value in letters.values if value):
                if letter["partition"] == number and letter["offset"] >= offset:
                    buried.add((letter["offset"], letter["index"]))
            at = letters.offsets[-1] + 1
        return buried

    def _describe_users(self) -> None:
        for partition in self._partitions.values():
            while partition.users < self._log.end(USERS, partition.number):
                records = self._log.read(USERS, partition.number, partition.users, _READ)
                if not len(records):
                    break
                self._bar(records)
                people = _people(records)
                names = [(key or b"").decode() for key in people.keys]
                self._users.describe(keys_of(names), names, people.offsets, people.values)
                partition.users = records.offsets[-1] + 1
                self._users.flush()

    def _bar(self, records: Records) -> None:
        """Apply the records by which the guard bars people from items."""
        found = [bar_in(key, value) for key, value in zip(records.keys, records.values, strict=True)]
        bars = [(offset, *one) for offset, one in zip(records.offsets, found, strict=True) if one]
        if bars:
            items = keys_of([bar.item_id for _, _, bar in bars]).tolist()
            offsets, until = [offset for offset, _, _ in bars], [bar.until for _, _, bar in bars]
            self._users.bar(keys_of([name for _, name, _ in bars]), offsets, items, until)

    def _revoked(self, partitions: frozenset[int]) -> None:
        for number in partitions:
            self._partitions.pop(number, None)
        self._users.forget_cache()

    def _assign(self) -> set[int]:
        """Take up the partitions that came; returns them."""
        fresh = self._source.snapshot().keys() - self._partitions.keys()
        for number in sorted(fresh):
            self._users.forget_cache()
            self._partitions[number] = self._recover(number)
        return fresh

    def _recover(self, number: int) -> Partition:
        """The state of a partition, out of the examples topic and the events behind it."""
        settings = self._settings
        end = self._log.end(EXAMPLES, number)
        begin = self._log.start(EVENTS, number)
        reach = Reach(number, begin, begin, begin, NO_WATERMARK, 0)
        if end > self._log.start(EXAMPLES, number):
            reach, _ = decode_examples(self._log.read(EXAMPLES, number, end - 1, 1).values[0] or b"")
        committed = self._source.committed().get(number, Position(self._log.start(EVENTS, number)))
        watermark = Watermark(settings.stream.lateness, None if reach.watermark == NO_WATERMARK else reach.watermark)
        users = int(committed.note or 0)
        seen, joiner = SeenEvents(settings.events.remember), Joiner(settings.stream.window)
        buried = self._buried_from(number, reach.next)
        told = left_behind(self._log, number, reach.next)
        partition = Partition(number, reach.next, users, watermark, seen, joiner, buried, told)
        self._remember(partition, end, committed.offset)
        self._store_again(partition, committed.offset)
        self._reopen(partition, end)
        self._source.seek(number, partition.next)
        _logger.info("partition %d: events from %d, users stored up to %d", number, partition.next, committed.offset)
        return partition

    def _remember(self, partition: Partition, end: int, stored: int) -> None:
        """Learn from the published blocks which events were taken, but for those whose users were not yet stored."""
        known: list[np.ndarray] = []
        left, at = self._settings.events.remember, end
        while left > 0 and at > self._log.start(EXAMPLES, partition.number):
            at -= 1
            _, batch = decode_examples(self._log.read(EXAMPLES, partition.number, at, 1).values[0] or b"")
            taken = np.isin(batch.kind, (Kind.shown, Kind.action, Kind.held)) & (batch.offset < stored)
            known.append(batch.event[taken])
            left -= int(taken.sum())
        for events in reversed(known):
            partition.seen.first_seen(events)

    def _store_again(self, partition: Partition, first: int) -> None:
        """Apply to the users the events that were published but perhaps not yet stored."""
        while first < partition.next:
            records = _before(self._log.read(EVENTS, partition.number, first, _READ), partition.next)
            if not len(records):
                break
            intake = take_in(records, self._limits)
            rows = np.flatnonzero(partition.seen.first_seen(intake.batch.event))
            events = [intake.events[row] for row in rows.tolist()]
            texts, names = [text_of(event) for event in events], [event.user_id for event in events]
            self._users.apply(intake.batch.take(rows), texts, names)
            self._users.flush()
            first = records.offsets[-1] + 1
        self._source.commit({partition.number: Position(partition.next, str(partition.users))})

    def _reopen(self, partition: Partition, end: int) -> None:
        """Open again the impressions that published blocks left open."""
        if partition.watermark.ts is None:
            return
        settings = self._settings.stream
        horizon = partition.watermark.ts - round((settings.window + settings.lateness) * 1000)
        first = end
        while first > self._log.start(EXAMPLES, partition.number):
            first -= 1
            reach, batch = decode_examples(self._log.read(EXAMPLES, partition.number, first, 1).values[0] or b"")
            if reach.watermark < horizon:
                break
        for offset in range(first, end):
            _, batch = decode_examples(self._log.read(EXAMPLES, partition.number, offset, 1).values[0] or b"")
            partition.joiner.restore(batch)


def _before(records: Records, offset: int) -> Records:
    """The records below an offset."""
    n = int(np.searchsorted(np.array(records.offsets, np.int64), offset))
    return Records(records.partition, records.offsets[:n], records.keys[:n], records.values[:n], records.times[:n])


def _people(records: Records) -> Records:
    """The records that name a person and say something about them; others are passed over loudly."""
    sound = []
    for i, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
        if (key or b"").startswith(BARRED):
            continue
        if fault := person_fault(key, value):
            metrics.dead_letter.labels("bad_user").inc()
            _logger.warning("users topic, %d:%d passed over: %s", records.partition, records.offsets[i], fault)
        else:
            sound.append(i)
    return Records(
        records.partition,
        [records.offsets[i] for i in sound],
        [records.keys[i] for i in sound],
        [records.values[i] for i in sound],
        [records.times[i] for i in sound],
    )


def dead_letter(refused: Refused, partition: int | None) -> bytes:
    """A refusal as a record of the dead-letter topic; bytes that are no text are shown escaped."""
    return msgspec.json.encode(
        {
            "reason": refused.refusal.reason,
            "detail": refused.refusal.detail,
            "partition": partition,
            "offset": refused.offset if partition is not None else None,
            "index": refused.index,
            "raw": refused.raw.decode(errors="backslashreplace"),
        }
    )
