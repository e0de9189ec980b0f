"""Event log on Kafka."""

from collections.abc import Mapping, Sequence

from stream.clock import Clock
from stream.kafka.admin import KafkaAdmin
from stream.kafka.reader import KafkaReader
from stream.kafka.source import KafkaSource, Subscription
from stream.kafka.url import KafkaSettings, parse_url
from stream.kafka.writer import KafkaWriter
from stream.logs import Position, Record, Records, RevokeCallback, TopicProblem


def open_url(url: str, prefix: str, clock: Clock) -> "KafkaLog":
    return KafkaLog(parse_url(url), prefix)


class KafkaLog:
    """`EventLog` on Kafka.

    The broker sets append times, and compacts topics at times of its choice. `append_many` is durable per partition:
    after an error, some partitions have all of their records, others the first few or none. A record needs a key or a
    value. A group has at most one active reader per partition.
    """

    def __init__(self, settings: KafkaSettings, prefix: str) -> None:
        self._admin = KafkaAdmin(settings, prefix)
        self._reader = KafkaReader(settings)
        self._writer = KafkaWriter(settings)
        self._settings = settings
        self._sources: list[KafkaSource] = []

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        self._admin.create(topic, partitions, compacted)

    def topic_id(self, topic: str) -> str:
        return self._admin.topic_id(topic)

    def partitions(self, topic: str) -> int:
        return self._admin.partitions(topic)

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return self.append_many(topic, {partition: records})[partition]

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        for partition, records in batches.items():
            self._validate_partition(topic, partition)
            for key, value in records:
                _check_record(key, value)
        first_offsets = self._writer.append(self._admin.topic_name(topic), batches)
        empty = [partition for partition in batches if partition not in first_offsets]
        return first_offsets | (self._reader.end_offsets(self._admin.topic_name(topic), empty) if empty else {})

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        return self._reader.read(
            self._admin.topic_name(topic), self._validate_partition(topic, partition), offset, limit
        )

    def start_offset(self, topic: str, partition: int) -> int:
        self._validate_partition(topic, partition)
        return self._reader.start_offsets(self._admin.topic_name(topic), [partition])[partition]

    def end_offset(self, topic: str, partition: int) -> int:
        self._validate_partition(topic, partition)
        return self._reader.end_offsets(self._admin.topic_name(topic), [partition])[partition]

    def end_offsets(self, topic: str) -> dict[int, int]:
        self._admin.check_unchanged()
        return self._reader.end_offsets(self._admin.topic_name(topic), range(self._admin.partitions(topic)))

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        return self._reader.offset_for_time(
            self._admin.topic_name(topic), self._validate_partition(topic, partition), ts
        )

    def open_source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        on_revoke: RevokeCallback | None = None,
    ) -> KafkaSource:
        selection = None if partitions is None else [self._validate_partition(topic, number) for number in partitions]
        self._admin.partitions(topic)
        subscription = Subscription(topic, group, selection)
        source = KafkaSource(self._settings, self._admin, self._reader, subscription, on_revoke)
        self._sources = [*(other for other in self._sources if not other.closed), source]
        return source

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        return self._admin.committed(topic, group)

    def trim(self, topic: str, partition: int, before: int) -> None:
        self._admin.trim(topic, {partition: min(before, self.end_offset(topic, partition))})
        self._reader.invalidate(self._admin.topic_name(topic))

    def trim_older(self, topic: str, ts: int) -> None:
        before_offsets = {
            partition: self.offset_for_time(topic, partition, ts) for partition in range(self.partitions(topic))
        }
        self._admin.trim(topic, before_offsets)
        self._reader.invalidate(self._admin.topic_name(topic))

    def compact(self, topic: str, before: int) -> None:
        """Check that the topic is compacted; the broker compacts it by itself."""
        if not self._admin.is_compacted(topic):
            raise ValueError(f"topic {topic!r} is not compacted: create it with compacted=True")

    def topic_problems(self, retention: float = 0.0) -> list[TopicProblem]:
        return self._admin.topic_problems(retention)

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self._writer.close()
        self._reader.close()
        self._admin.close()

    def _validate_partition(self, topic: str, partition: int) -> int:
        self._admin.check_unchanged()
        count = self._admin.partitions(topic)
        if not 0 <= partition < count:
            raise ValueError(f"topic {topic!r} has partitions 0 to {count - 1}, got {partition}")
        return partition


def _check_record(key: bytes | None, value: bytes | None) -> None:
    for entry in (key, value):
        if not isinstance(entry, bytes | None):
            raise TypeError(f"keys and values must be bytes or None, got {type(entry).__name__}")
    if key is None and value is None:
        raise ValueError("a record for Kafka needs a key or a value, got neither")
