"""The event log on Kafka, for as many machines as there are partitions."""

from collections.abc import Mapping, Sequence

from stream.clock import Clock
from stream.kafka.admin import KafkaTopics
from stream.kafka.reader import KafkaReader
from stream.kafka.source import KafkaSource, Place
from stream.kafka.url import Brokers, parse_url
from stream.kafka.writer import KafkaWriter
from stream.logs import Position, Record, Records, Revoked


def open_url(url: str, prefix: str, clock: Clock) -> "KafkaLog":
    return KafkaLog(parse_url(url), prefix)


class KafkaLog:
    """See `EventLog`. Kafka gives each record the time of its append; compaction is the broker's, in its own time.

    `append_many` is durable partition by partition: after an error some have what they were given, others a
    beginning of it or nothing. A record needs a key or a value. A group has as many readers as there are partitions.
    """

    def __init__(self, brokers: Brokers, prefix: str) -> None:
        self._topics = KafkaTopics(brokers, prefix)
        self._reader = KafkaReader(brokers)
        self._writer = KafkaWriter(brokers)
        self._brokers = brokers
        self._sources: list[KafkaSource] = []

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        self._topics.create(topic, partitions, compacted)

    def partitions(self, topic: str) -> int:
        return self._topics.partitions(topic)

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return self.append_many(topic, {partition: records})[partition]

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        for partition, records in batches.items():
            self._known(topic, partition)
            for key, value in records:
                _check(key, value)
        firsts = self._writer.append(self._topics.name(topic), batches)
        empty = [partition for partition in batches if partition not in firsts]
        return firsts | (self._reader.ends(self._topics.name(topic), empty) if empty else {})

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        return self._reader.read(self._topics.name(topic), self._known(topic, partition), offset, limit)

    def start(self, topic: str, partition: int) -> int:
        return self._reader.starts(self._topics.name(topic), [self._known(topic, partition)])[partition]

    def end(self, topic: str, partition: int) -> int:
        return self._reader.ends(self._topics.name(topic), [self._known(topic, partition)])[partition]

    def ends(self, topic: str) -> dict[int, int]:
        return self._reader.ends(self._topics.name(topic), range(self._topics.partitions(topic)))

    def find_time(self, topic: str, partition: int, ts: int) -> int:
        return self._reader.find_time(self._topics.name(topic), self._known(topic, partition), ts)

    def source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        revoked: Revoked | None = None,
    ) -> KafkaSource:
        held = None if partitions is None else [self._known(topic, partition) for partition in partitions]
        self._topics.partitions(topic)
        source = KafkaSource(self._brokers, self._topics, self._reader, Place(topic, group, held), revoked)
        self._sources = [*(opened for opened in self._sources if not opened.closed), source]
        return source

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        return self._topics.committed(topic, group)

    def trim(self, topic: str, partition: int, before: int) -> None:
        self._topics.trim(topic, {partition: min(before, self.end(topic, partition))})
        self._reader.forget(self._topics.name(topic))

    def trim_older(self, topic: str, ts: int) -> None:
        befores = {partition: self.find_time(topic, partition, ts) for partition in range(self.partitions(topic))}
        self._topics.trim(topic, befores)
        self._reader.forget(self._topics.name(topic))

    def compact(self, topic: str, before: int) -> None:
        """Nothing but a check: the broker does it by itself."""
        if not self._topics.is_compacted(topic):
            raise ValueError(f"topic {topic!r} was not created as a compacted one")

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self._writer.close()
        self._reader.close()
        self._topics.close()

    def _known(self, topic: str, partition: int) -> int:
        count = self._topics.partitions(topic)
        if not 0 <= partition < count:
            raise ValueError(f"topic {topic!r} has partitions 0 to {count - 1}, got {partition}")
        return partition


def _check(key: bytes | None, value: bytes | None) -> None:
    for entry in (key, value):
        if not isinstance(entry, bytes | None):
            raise TypeError(f"keys and values must be bytes or None, got {type(entry).__name__}")
    if key is None and value is None:
        raise ValueError("a record for Kafka needs a key or a value")
