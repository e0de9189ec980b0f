"""A log to run the live stream worker on once more: it reads what was read, and what it writes is compared."""

from collections.abc import Iterator, Mapping, Sequence

from stream.logs import EventLog, Position, Record, Records
from stream.records.example_blocks import Reach, decode_examples, sound_blocks
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, QUARANTINE, USERS


class RecordedLog:
    """Stands in for the log of one partition; only what a stream worker calls is here.

    Its micro-batches end where those of the live worker ended, which the blocks of examples say. What the worker
    appends is not written, but held against what the live one wrote.
    """

    def __init__(self, log: EventLog, partition: int) -> None:
        self._log = log
        self._partition = partition
        self._users = 0
        self._written = log.start(EXAMPLES, partition)
        self.blocks = 0
        self.different: list[int] = []  # offsets of blocks that came out otherwise
        self.reached = 0

    def micro_batches(self) -> Iterator[Reach]:
        """The live worker's micro-batches: the last block of each."""
        for offset in range(self._log.start(EXAMPLES, self._partition), self._log.end(EXAMPLES, self._partition)):
            for block in sound_blocks(self._log.read(EXAMPLES, self._partition, offset, 1)):
                reach, _ = decode_examples(block)
                if reach.next == reach.until:
                    yield reach

    def source(
        self, topic: str, group: str | None, partitions: object = None, revoked: object = None
    ) -> "RecordedSource":
        return RecordedSource(self)

    def end(self, topic: str, partition: int) -> int:
        if topic == USERS:
            return self._users
        return 0 if topic == EXAMPLES else self._log.end(topic, partition)

    def ends(self, topic: str) -> dict[int, int]:
        return {self._partition: self.end(topic, self._partition)}

    def find_time(self, topic: str, partition: int, ts: int) -> int:
        return self.end(topic, partition)

    def start(self, topic: str, partition: int) -> int:
        return 0 if topic == EXAMPLES else self._log.start(topic, partition)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        if topic in (DEAD_LETTER, QUARANTINE, ALARMS):
            return Records(partition, [], [], [], [])
        if topic == USERS:
            limit = min(limit, self._users - offset)
        return self._log.read(topic, partition, offset, limit)

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return 0

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        for _, value in batches.get(self._partition, ()):
            if value != self._next_block():
                self.different.append(self._written)
            self.blocks += 1
        return {}

    def _next_block(self) -> bytes | None:
        """The block that the live worker published next; None if there is none."""
        while len(live := self._log.read(EXAMPLES, self._partition, self._written, 1)):
            self._written = live.offsets[0] + 1
            if blocks := sound_blocks(live):
                return blocks[0]
        return None

    def next_records(self, reach: Reach) -> Records:
        """The events of a micro-batch, with the users topic as far as it had been read."""
        self._users = reach.users
        first = self.reached or self._log.start(EVENTS, self._partition)
        self.reached = reach.until
        return self._log.read(EVENTS, self._partition, first, reach.until - first)


class RecordedSource:
    """The events of a recorded log, a micro-batch at a time."""

    def __init__(self, recorded: RecordedLog) -> None:
        self._recorded = recorded
        self._batches = recorded.micro_batches()
        self._joined = False

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if not self._joined:  # a worker takes up a partition before it reads from it
            self._joined = True
            return []
        reach = next(self._batches, None)
        return [] if reach is None else [self._recorded.next_records(reach)]

    def snapshot(self) -> dict[int, int]:
        return {self._recorded._partition: self._recorded.reached}

    def seek(self, partition: int, offset: int) -> None:
        pass

    def commit(self, positions: Mapping[int, Position]) -> None:
        pass

    def committed(self) -> dict[int, Position]:
        return {}

    def close(self) -> None:
        pass
