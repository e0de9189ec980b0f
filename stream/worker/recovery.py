"""Taking up a partition: its state out of the user store, the examples topic and the events behind it."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np

from stream.clock import Watermark
from stream.config import Settings
from stream.deduplication import SeenEvents
from stream.logs import EventLog, Records
from stream.quarantine import left_behind
from stream.records.batches import ExampleBatch, Kind
from stream.records.decoding import take_in
from stream.records.events import Limits
from stream.records.example_blocks import Reach, decode_examples, sound_blocks
from stream.stores import UserStore
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES
from stream.users.profiles import text_of
from stream.users.table import UserTable
from stream.worker.joiner import Joiner
from stream.worker.partition import NO_WATERMARK, Partition, Stored, flush
from stream.worker.user_updates import describe_people

_READ = 4096
_BLOCKS = 32  # read at once
_SLACK = 60_000  # ms by which the clocks of two writers of the log may differ
_logger = logging.getLogger(__name__)


class Recovery:
    """Whoever had the partition before, and however it ended, the worker goes on as if there had been no change.

    The store's mark says which events its users have seen, and where the examples topic ended then. What was published
    from there on says how far the events were taken. The users are then brought to that point, from wherever the store
    is: a micro-batch back after a crash, the beginning of the log after the store lost everything.
    """

    def __init__(self, log: EventLog, store: UserStore, users: UserTable, settings: Settings) -> None:
        self._log = log
        self._store = store
        self._users = users
        self._settings = settings
        self._limits = Limits(settings.events.max_age, settings.events.max_skew)

    def take_up(self, number: int) -> Partition:
        stored = Stored.parse(self._store.claim(number))
        end = self._log.end(EXAMPLES, number)
        next_ = self._taken(number, stored, end)
        partition = Partition(
            number=number,
            next=next_,
            users=stored.users,
            watermark=Watermark(self._settings.stream.lateness),
            seen=SeenEvents(self._settings.events.remember),
            joiner=Joiner(self._settings.stream.window),
            buried=self._buried_from(number, next_),
            examples=end,
            stored=stored,
            told=left_behind(self._log, number, next_),
        )
        self._look_back(partition)
        self._store_again(partition)
        _logger.info("partition %d: events from %d, users were stored up to %d", number, next_, stored.next)
        return partition

    def _taken(self, number: int, stored: Stored, end: int) -> int:
        """Offset of the first event that nobody has published or stored."""
        next_ = max([stored.next, *(reach.next for reach, _ in self._blocks(number, stored.examples, end))])
        next_ = next_ or self._log.start(EVENTS, number)
        kept = self._log.end(EVENTS, number)
        if next_ > kept:
            raise ValueError(
                f"partition {number} of the events was taken up to offset {next_}, but the log ends at {kept}: it was "
                "replaced; restore it, or start over with other prefixes of log and store"
            )
        return next_

    def _blocks(self, number: int, first: int, end: int) -> Iterator[tuple[Reach, ExampleBatch]]:
        """Published blocks by their own offsets, oldest first."""
        while first < end:
            records = self._log.read(EXAMPLES, number, first, min(_BLOCKS, end - first))
            if not len(records):
                return
            yield from map(decode_examples, sound_blocks(records))
            first = records.offsets[-1] + 1

    def _blocks_back(self, number: int, end: int) -> Iterator[tuple[Reach, ExampleBatch]]:
        """The same, newest first."""
        start = self._log.start(EXAMPLES, number)
        while end > start:
            first = max(start, end - _BLOCKS)
            yield from reversed(list(self._blocks(number, first, end)))
            end = first

    def _look_back(self, partition: Partition) -> None:
        """The watermark, the events known already, and the impressions left open, as the published blocks have them."""
        left = self._settings.events.remember
        known: list[np.ndarray] = []
        recent: list[ExampleBatch] = []
        looking = False  # for impressions that are open still
        for reach, batch in self._blocks_back(partition.number, partition.examples):
            if not known and reach.watermark != NO_WATERMARK:
                partition.watermark.ts, looking = reach.watermark, True
            if looking:
                recent.append(batch)
                looking = reach.watermark >= self._horizon(partition)
            if left > 0:
                known.append(_taken_before(batch, partition.stored.next))
                left -= known[-1].size
            if left <= 0 and not looking:
                break
        for events in reversed(known):
            partition.seen.first_seen(events)
        for batch in reversed(recent):
            partition.joiner.restore(batch)

    def _horizon(self, partition: Partition) -> int:
        """Event time, ms: what was shown before it is closed."""
        settings = self._settings.stream
        return (partition.watermark.ts or 0) - round((settings.window + settings.lateness) * 1000)

    def _store_again(self, partition: Partition) -> None:
        """Apply to the users what was published but not stored, each record of the users topic where it stood then."""
        for reach, _ in self._blocks(partition.number, partition.stored.examples, partition.examples):
            if reach.users > partition.users:
                self._apply_again(partition, min(reach.first, partition.next))
                describe_people(self._log, self._users, partition, reach.users)
        self._apply_again(partition, partition.next)
        flush(self._users, [(partition, partition.reached)])

    def _apply_again(self, partition: Partition, until: int) -> None:
        while partition.stored.next < until:
            first = partition.stored.next
            records = _before(self._log.read(EVENTS, partition.number, first, min(_READ, until - first)), until)
            if len(records):
                intake = take_in(records, self._limits)
                rows = np.flatnonzero(partition.seen.first_seen(intake.batch.event))
                events = [intake.events[row] for row in rows.tolist()]
                texts, names = [text_of(event) for event in events], [event.user_id for event in events]
                self._users.apply(intake.batch.take(rows), texts, names)
            next_ = records.offsets[-1] + 1 if len(records) else until
            flush(self._users, [(partition, replace(partition.stored, next=next_, users=partition.users))])

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


def _taken_before(batch: ExampleBatch, offset: int) -> np.ndarray:
    """Keys of the events below an offset; those whose users are not yet stored will be known when they are."""
    taken = np.isin(batch.kind, (Kind.shown, Kind.action, Kind.held))
    events: np.ndarray = batch.event[taken & (batch.offset < offset)]
    return events


def _before(records: Records, offset: int) -> Records:
    """The records below an offset."""
    n = int(np.searchsorted(np.array(records.offsets, np.int64), offset))
    return Records(records.partition, records.offsets[:n], records.keys[:n], records.values[:n], records.times[:n])
