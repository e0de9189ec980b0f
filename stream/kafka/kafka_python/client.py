"""Records by kafka-python, the client that is always there."""

from collections.abc import Mapping, Sequence
from typing import Any

from stream.kafka.kafka_python.connections import At, CommittedAt, explained, insist, member, producer
from stream.kafka.kafka_python.fast_decoding import records_of
from stream.kafka.url import Brokers
from stream.logs import Position, Record, Records


def open_sender(brokers: Brokers) -> "PlainSender":
    return PlainSender(brokers)


def open_member(brokers: Brokers, topic: str, group: str | None, instance: str | None) -> "PlainMember":
    return PlainMember(brokers, topic, group, instance)


class PlainSender:
    """See `Sender`."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._client = insist(brokers, lambda: producer(brokers))

    def send(self, topic: str, batches: Sequence[tuple[int, Sequence[Record]]]) -> list[tuple[int, int]]:
        send = self._client.send
        with explained(self._brokers):
            told = [
                (partition, [send(topic, value, key, partition=partition) for key, value in records])
                for partition, records in batches
            ]
            self._client.flush(self._brokers.patience + 20)
            return [(partition, _first(sent)) for partition, sent in told]

    def drop(self) -> None:
        self._client.close(timeout=0, null_logger=True)

    def close(self) -> None:
        self._client.close(timeout=5, null_logger=True)


def _first(told: Sequence[Any]) -> int:
    """The offset of the first of the records sent, all of which have arrived."""
    offsets = [one.get(0).offset for one in told]
    return int(offsets[0])


class PlainMember:
    """See `Member`. The consumer's own thread keeps the membership alive."""

    def __init__(self, brokers: Brokers, topic: str, group: str | None, instance: str | None) -> None:
        self._brokers = brokers
        self._topic = topic
        self._client = insist(brokers, lambda: member(brokers, group, instance))

    def join(self) -> None:
        self._client.subscribe([self._topic])

    def take(self, partitions: Sequence[int]) -> None:
        self._client.assign(self._at(partitions))

    def poll(self, limit: int, timeout: float) -> list[Records]:
        with explained(self._brokers):
            found: Mapping[Any, list[Any]] = self._client.poll(round(timeout * 1000), max_records=limit)
        return [records_of(at.partition, some) for at, some in found.items()]

    def held(self) -> frozenset[int]:
        return frozenset(at.partition for at in self._client.assignment())

    def is_settled(self) -> bool:
        return bool(self._client.group_metadata().state == "<stable>")

    def seek(self, partition: int, offset: int) -> None:
        self._client.seek(At(self._topic, partition), offset)

    def commit(self, positions: Mapping[int, Position]) -> None:
        wanted = {
            At(self._topic, partition): CommittedAt(at.offset, at.note, -1) for partition, at in positions.items()
        }
        insist(self._brokers, lambda: self._client.commit(wanted, timeout_ms=5_000))

    def close(self) -> None:
        self._client.close(timeout_ms=5_000)

    def _at(self, partitions: Sequence[int]) -> list[Any]:
        return [At(self._topic, partition) for partition in partitions]
