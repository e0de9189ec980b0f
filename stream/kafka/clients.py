"""What the driver wants of a Kafka client that moves records, and which one it gets.

kafka-python is always there: it makes topics, looks into them, and moves records unless told otherwise. confluent-kafka
moves them for less, where `pip install headrace[fast-kafka]` has brought it and `client=confluent` in the log url asks
for it. It is never taken for being installed alone: what runs is what the settings say, on every machine.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from stream.kafka.url import KafkaSettings
from stream.logs import Position, Record, Records


class Producer(Protocol):
    """An idempotent producer, acks=all; for one thread at a time."""

    def send(self, topic: str, batches: Sequence[tuple[int, Sequence[Record]]]) -> list[tuple[int, int]]:
        """Send one batch per partition; durable on return, with the first offset by partition."""
        ...

    def abort(self) -> None:
        """Close without sending what still waits."""
        ...

    def close(self) -> None: ...


class Consumer(Protocol):
    """A consumer of one topic; for one thread at a time. What it fetches ahead has a limit in bytes."""

    def join(self) -> None:
        """Have the group share out the partitions from now on, inside `poll`, cooperatively."""
        ...

    def assign(self, partitions: Sequence[int]) -> None:
        """Hold these partitions, whatever others do."""
        ...

    def poll(self, limit: int, timeout: float) -> list[Records]:
        """What has come; also of partitions that have just been gained, from wherever the client began there."""
        ...

    def assignment(self) -> frozenset[int]: ...

    def has_assignment(self) -> bool:
        """Whether the group has said which partitions this member gets, even if none."""
        ...

    def seek(self, partition: int, offset: int) -> None: ...

    def commit(self, positions: Mapping[int, Position]) -> None: ...

    def close(self) -> None: ...


class ClientLibrary(Protocol):
    """A module that has a client: see `kafka_plain` and `kafka_fast`."""

    def open_producer(self, settings: KafkaSettings) -> Producer: ...

    def open_consumer(
        self, settings: KafkaSettings, topic: str, group: str | None, instance_id: str | None
    ) -> Consumer: ...
