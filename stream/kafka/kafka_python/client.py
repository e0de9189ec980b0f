"""Client for kafka-python, the default library."""

from collections.abc import Mapping, Sequence
from typing import Any

from stream.kafka.kafka_python.connections import (
    CommittedOffset,
    TopicAndPartition,
    create_consumer,
    create_producer,
    retry,
    translate_errors,
)
from stream.kafka.kafka_python.fast_decoding import to_records
from stream.kafka.url import KafkaSettings
from stream.logs import Position, Record, Records


def open_producer(settings: KafkaSettings) -> "KafkaPythonProducer":
    return KafkaPythonProducer(settings)


def open_consumer(
    settings: KafkaSettings, topic: str, group: str | None, instance_id: str | None
) -> "KafkaPythonConsumer":
    return KafkaPythonConsumer(settings, topic, group, instance_id)


class KafkaPythonProducer:
    """`Producer` on kafka-python."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client = retry(settings, lambda: create_producer(settings))

    def send(self, topic: str, batches: Sequence[tuple[int, Sequence[Record]]]) -> list[tuple[int, int]]:
        send = self._client.send
        with translate_errors(self._settings):
            futures = [
                (partition, [send(topic, value, key, partition=partition) for key, value in records])
                for partition, records in batches
            ]
            self._client.flush(self._settings.retry_timeout + 20)
            return [(partition, _first_offset(partition_futures)) for partition, partition_futures in futures]

    def abort(self) -> None:
        self._client.close(timeout=0, null_logger=True)

    def close(self) -> None:
        self._client.close(timeout=5, null_logger=True)


def _first_offset(futures: Sequence[Any]) -> int:
    """Offset of the first record, after all records are delivered."""
    offsets = [future.get(0).offset for future in futures]
    return int(offsets[0])


class KafkaPythonConsumer:
    """`Consumer` on kafka-python, which sends heartbeats from a thread of its own."""

    def __init__(self, settings: KafkaSettings, topic: str, group: str | None, instance_id: str | None) -> None:
        self._settings = settings
        self._topic = topic
        self._client = retry(settings, lambda: create_consumer(settings, group, instance_id))

    def join(self) -> None:
        self._client.subscribe([self._topic])

    def assign(self, partitions: Sequence[int]) -> None:
        self._client.assign(self._topic_partitions(partitions))

    def poll(self, limit: int, timeout: float) -> list[Records]:
        with translate_errors(self._settings):
            rows_by_partition: Mapping[Any, list[Any]] = self._client.poll(round(timeout * 1000), max_records=limit)
        return [to_records(topic_partition.partition, rows) for topic_partition, rows in rows_by_partition.items()]

    def assignment(self) -> frozenset[int]:
        return frozenset(topic_partition.partition for topic_partition in self._client.assignment())

    def has_assignment(self) -> bool:
        return bool(self._client.group_metadata().state == "<stable>")

    def seek(self, partition: int, offset: int) -> None:
        self._client.seek(TopicAndPartition(self._topic, partition), offset)

    def commit(self, positions: Mapping[int, Position]) -> None:
        offsets = {
            TopicAndPartition(self._topic, partition): CommittedOffset(position.offset, position.metadata, -1)
            for partition, position in positions.items()
        }
        retry(self._settings, lambda: self._client.commit(offsets, timeout_ms=5_000))

    def close(self) -> None:
        self._client.close(timeout_ms=5_000)

    def _topic_partitions(self, partitions: Sequence[int]) -> list[Any]:
        return [TopicAndPartition(self._topic, partition) for partition in partitions]
