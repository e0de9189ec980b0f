"""Protocols of a Kafka client that sends and receives records.

kafka-python is always installed: it creates topics, reads their offsets, and moves records by default.
confluent-kafka moves them with less CPU, after `pip install headrace[fast-kafka]` and with `client=confluent` in the
log URL. Installing it is not enough, so the settings alone decide which client runs, on every machine.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from stream.kafka.url import KafkaSettings
from stream.logs import Position, Record, Records


class Producer(Protocol):
    """Idempotent producer, acks=all; for one thread at a time."""

    def send(self, topic: str, batches: Sequence[tuple[int, Sequence[Record]]]) -> list[tuple[int, int]]:
        """Send one batch per partition, durable on return; returns (partition, first offset)."""
        ...

    def abort(self) -> None:
        """Close without sending the pending records."""
        ...

    def close(self) -> None: ...


class Consumer(Protocol):
    """Consumer of one topic; for one thread at a time. It prefetches up to a limit in bytes."""

    def join(self) -> None:
        """Join the group, which assigns partitions cooperatively inside `poll`."""
        ...

    def assign(self, partitions: Sequence[int]) -> None:
        """Assign these partitions, independent of other consumers."""
        ...

    def poll(self, limit: int, timeout: float) -> list[Records]:
        """Receive records; those of newly assigned partitions can start at any offset."""
        ...

    def assignment(self) -> frozenset[int]: ...

    def has_assignment(self) -> bool:
        """Return True once the group has assigned partitions to this member, even none."""
        ...

    def seek(self, partition: int, offset: int) -> None: ...

    def commit(self, positions: Mapping[int, Position]) -> None: ...

    def close(self) -> None: ...


class ClientLibrary(Protocol):
    """Module with a client: `kafka_python.client` and `confluent`."""

    def open_producer(self, settings: KafkaSettings) -> Producer: ...

    def open_consumer(
        self, settings: KafkaSettings, topic: str, group: str | None, instance_id: str | None
    ) -> Consumer: ...
