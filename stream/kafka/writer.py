"""Appends to Kafka that are durable on return, in order, without holes."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from stream.kafka.clients import Sender
from stream.kafka.kafka_python.connections import BATCH_BYTES
from stream.kafka.libraries import client_of
from stream.kafka.url import Brokers
from stream.logs import Record

_OVERHEAD = 32  # bytes of a record beside its key and value, at most


class KafkaWriter:
    """One idempotent producer; threads take turns.

    Each flush sends one batch per partition, and a broker takes a batch whole or not at all. The next batch goes out
    when this one is acknowledged, so what a crash or an error leaves behind is always a beginning of what was asked
    for, never a part behind a hole. A stream worker relies on that for its blocks of examples.
    """

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._client = client_of(brokers)
        self._lock = threading.Lock()
        self._sender: Sender | None = None

    def append(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        """First offsets by partition, of the partitions that get records."""
        firsts: dict[int, int] = {}
        with self._lock:
            if self._sender is None:
                self._sender = self._client.open_sender(self._brokers)
            try:
                for flush in zip_longest(*(_cut(partition, records) for partition, records in batches.items())):
                    for partition, first in self._sender.send(topic, [one for one in flush if one]):
                        firsts.setdefault(partition, first)
            except BaseException:
                # What waits in the producer must not go out behind what it failed to send.
                self._sender.drop()
                self._sender = None
                raise
        return firsts

    def close(self) -> None:
        with self._lock:
            if self._sender is not None:
                self._sender.close()
            self._sender = None


def _cut(partition: int, records: Sequence[Record]) -> Iterator[tuple[int, Sequence[Record]]]:
    """The records in runs that make one batch each."""
    first = size = 0
    for i, (key, value) in enumerate(records):
        more = len(key or b"") + len(value or b"") + _OVERHEAD
        if size + more > BATCH_BYTES and i > first:
            yield partition, records[first:i]
            first, size = i, 0
        size += more
    if first < len(records):
        yield partition, records[first:]
