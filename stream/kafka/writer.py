"""Appends to Kafka that are durable on return, in order and without gaps."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from stream.kafka.clients import Producer
from stream.kafka.diagnostics import connection_outage
from stream.kafka.kafka_python.connections import BATCH_BYTES
from stream.kafka.libraries import load_client
from stream.kafka.url import KafkaSettings
from stream.logs import Record

_RECORD_OVERHEAD_BYTES = 32  # maximum bytes of a record in addition to its key and value


class KafkaWriter:
    """One idempotent producer; threads take turns.

    Each flush sends one batch per partition, and a broker appends a batch whole or not at all. The next batch is sent
    after the acknowledgment of this one. So a crash or an error leaves the first records of an append, never later
    ones behind a gap. A stream worker relies on that for its blocks of examples.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._library = load_client(settings)
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def append(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        """Append records; returns the first offset of each partition that gets records."""
        first_offsets: dict[int, int] = {}
        with self._lock:
            if self._producer is None:
                self._producer = self._library.open_producer(self._settings)
            try:
                for flush in zip_longest(
                    *(_split_batches(partition, records) for partition, records in batches.items())
                ):
                    for partition, first in self._producer.send(topic, [run for run in flush if run]):
                        first_offsets.setdefault(partition, first)
            except BaseException as error:
                if isinstance(error, ConnectionError):
                    connection_outage(str(self._settings)).report(error.strerror or error)
                # Pending records must not follow those that failed.
                self._producer.abort()
                self._producer = None
                raise
        connection_outage(str(self._settings)).end()
        return first_offsets

    def close(self) -> None:
        with self._lock:
            if self._producer is not None:
                self._producer.close()
            self._producer = None


def _split_batches(partition: int, records: Sequence[Record]) -> Iterator[tuple[int, Sequence[Record]]]:
    """Split records into runs of one batch each."""
    first = size = 0
    for i, (key, value) in enumerate(records):
        record_bytes = len(key or b"") + len(value or b"") + _RECORD_OVERHEAD_BYTES
        if size + record_bytes > BATCH_BYTES and i > first:
            yield partition, records[first:i]
            first, size = i, 0
        size += record_bytes
    if first < len(records):
        yield partition, records[first:]
