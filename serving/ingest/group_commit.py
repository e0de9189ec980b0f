"""Group commit: one durable write for the records of many concurrent requests."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from queue import SimpleQueue

from serving import metrics
from stream.ids import partition_for_id
from stream.logs import EventLog, Record
from stream.topics import EVENTS

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _WriteRequest:
    topic: str
    batches: dict[int, list[Record]]  # by partition
    future: "asyncio.Future[dict[int, int]] | None" = field(default=None)


class GroupCommitWriter:
    """Write from one thread, in the order of the calls, while other requests are served."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._queue: SimpleQueue[_WriteRequest | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="group-commit", daemon=True)
        self._thread.start()

    async def append(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> dict[int, int]:
        """Append (id, value) records durably; returns the first offset by partition."""
        future: asyncio.Future[dict[int, int]] = asyncio.get_running_loop().create_future()
        self._queue.put(_WriteRequest(topic, self._partition_records(topic, records), future))
        return await future

    def append_later(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> None:
        """Queue records without waiting; they precede the records of every later call."""
        self._queue.put(_WriteRequest(topic, self._partition_records(topic, records)))

    def close(self) -> None:
        """Write the queued records, then stop the thread."""
        self._queue.put(None)
        self._thread.join()

    def _partition_records(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> dict[int, list[Record]]:
        partition_count = self._log.partitions(topic)
        batches: dict[int, list[Record]] = {}
        for key, value in records:
            batches.setdefault(partition_for_id(key, partition_count), []).append((key.encode(), value))
        return batches

    def _write(self) -> None:
        is_closing = False
        while not is_closing:
            pending = [self._queue.get()]
            while not self._queue.empty():
                pending.append(self._queue.get())
            is_closing = None in pending
            requests = [request for request in pending if request is not None]
            for topic, group in groupby(requests, key=attrgetter("topic")):
                self._commit(topic, list(group))

    def _commit(self, topic: str, group: Sequence[_WriteRequest]) -> None:
        batches: dict[int, list[Record]] = {}
        for request in group:
            for partition, records in request.batches.items():
                batches.setdefault(partition, []).extend(records)
        try:
            with metrics.log_append_duration_seconds.time():
                first_offsets = dict(self._log.append_many(topic, batches)) if batches else {}
        except Exception as error:
            _logger.error("cannot append to %s: %s", topic, error)
            for request in group:
                _resolve(request, error)
            return
        for request in group:
            _resolve(request, {partition: first_offsets[partition] for partition in request.batches})
            for partition, records in request.batches.items():
                first_offsets[partition] += len(records)


def _resolve(request: _WriteRequest, outcome: dict[int, int] | Exception) -> None:
    future = request.future
    if future is None:
        if isinstance(outcome, Exception) and request.topic == EVENTS:
            metrics.impressions_lost.inc(sum(map(len, request.batches.values())))
        return
    future.get_loop().call_soon_threadsafe(_set_outcome, future, outcome)


def _set_outcome(future: "asyncio.Future[dict[int, int]]", outcome: dict[int, int] | Exception) -> None:
    if future.done():  # the client has disconnected
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
