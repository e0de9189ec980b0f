"""A log that replays recorded events to the live stream worker and compares the output."""

from collections.abc import Iterator, Mapping, Sequence

from stream.logs import EventLog, Position, Record, Records
from stream.records.example_blocks import BlockRange, decode_examples, valid_blocks
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, QUARANTINE, USERS


class RecordedLog:
    """Log of one partition, with the methods that a stream worker calls.

    Micro-batches end where those of the live worker ended; the example blocks record these offsets. Blocks that the
    worker appends are not written but compared with those of the live worker.
    """

    def __init__(self, log: EventLog, partition: int) -> None:
        self._log = log
        self.partition = partition
        self._users_end = 0
        self._block_offset = log.start_offset(EXAMPLES, partition)
        self.blocks = 0
        self.differing_offsets: list[int] = []  # of the live blocks that the replay did not reproduce
        self.next_offset = 0

    def partitions(self, topic: str) -> int:
        return self._log.partitions(topic)

    def topic_id(self, topic: str) -> str:
        return self._log.topic_id(topic)

    def micro_batches(self) -> Iterator[BlockRange]:
        """Yield the last block of each micro-batch of the live worker."""
        log, partition = self._log, self.partition
        for offset in range(log.start_offset(EXAMPLES, partition), log.end_offset(EXAMPLES, partition)):
            for block in valid_blocks(log.read(EXAMPLES, partition, offset, 1)):
                block_range, _ = decode_examples(block)
                if block_range.next_offset == block_range.batch_next_offset:
                    yield block_range

    def open_source(
        self, topic: str, group: str | None, partitions: object = None, on_revoke: object = None
    ) -> "RecordedSource":
        return RecordedSource(self)

    def end_offset(self, topic: str, partition: int) -> int:
        if topic == USERS:
            return self._users_end
        return 0 if topic == EXAMPLES else self._log.end_offset(topic, partition)

    def end_offsets(self, topic: str) -> dict[int, int]:
        return {self.partition: self.end_offset(topic, self.partition)}

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        return self.end_offset(topic, partition)

    def start_offset(self, topic: str, partition: int) -> int:
        return 0 if topic == EXAMPLES else self._log.start_offset(topic, partition)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        if topic in (DEAD_LETTER, QUARANTINE, ALARMS):
            return Records(partition, [], [], [], [])
        if topic == USERS:
            limit = min(limit, self._users_end - offset)
        if limit < 1:
            return Records(partition, [], [], [], [])
        return self._log.read(topic, partition, offset, limit)

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return 0

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        for _, value in batches.get(self.partition, ()):
            if value != self._next_block():
                self.differing_offsets.append(self._block_offset)
            self.blocks += 1
        return {}

    def _next_block(self) -> bytes | None:
        """Next block of the live worker; None after the last one."""
        while len(records := self._log.read(EXAMPLES, self.partition, self._block_offset, 1)):
            self._block_offset = records.offsets[0] + 1
            if blocks := valid_blocks(records):
                return blocks[0]
        return None

    def next_records(self, block_range: BlockRange) -> Records:
        """Read the events of a micro-batch, and limit the users topic to what was read by then."""
        self._users_end = block_range.next_users_offset
        first = self.next_offset or self._log.start_offset(EVENTS, self.partition)
        self.next_offset = block_range.batch_next_offset
        records = self._log.read(EVENTS, self.partition, first, block_range.batch_next_offset - first)
        return records.before(block_range.batch_next_offset)  # more where offsets have gaps


class RecordedSource:
    """Source of the recorded events, one micro-batch at a time."""

    def __init__(self, log: RecordedLog) -> None:
        self._log = log
        self._batches = log.micro_batches()
        self._has_joined = False

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if not self._has_joined:  # a worker restores a partition before it reads from it
            self._has_joined = True
            return []
        block_range = next(self._batches, None)
        return [] if block_range is None else [self._log.next_records(block_range)]

    def snapshot(self) -> dict[int, int]:
        return {self._log.partition: self._log.next_offset}

    def seek(self, partition: int, offset: int) -> None:
        pass

    def commit(self, positions: Mapping[int, Position]) -> None:
        pass

    def committed(self) -> dict[int, Position]:
        return {}

    def close(self) -> None:
        pass
