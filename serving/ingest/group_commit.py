"""Group commit: one durable write for the records of many concurrent requests."""

import asyncio
import contextlib
import errno
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue

from serving import metrics
from serving.replica.log_reads import LogUnavailable, timeout_error
from stream.ids import partition_for_id
from stream.logs import EventLog, Record
from stream.process.errors import describe_error
from stream.process.outages import OutageLog
from stream.topics import EVENTS

# A disk that is full, read-only or unreachable is repaired; a record that is too large stays too large.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ETIMEDOUT}
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _WriteRequest:
    topic: str
    batches: dict[int, list[Record]]  # by partition
    future: "asyncio.Future[dict[int, int]] | None" = field(default=None)  # None: deferred, nobody waits for it

    @property
    def is_abandoned(self) -> bool:
        """Return True if the caller has given up."""
        return self.future is not None and self.future.cancelled()


@dataclass(frozen=True, slots=True)
class CommitSettings:
    """Limits while the log does not answer."""

    timeout_s: float = 1.8  # that a request waits for its write
    max_deferred: int = 20_000  # writes without a caller that wait for the log
    group_delay_s: float = 0.01  # that deferred writes wait for others; a write with a caller ends the wait
    retry_delay_s: float = 0.5  # before deferred writes are repeated
    close_timeout_s: float = 3.0


class GroupCommitWriter:
    """Write from one thread, in the order of the calls, while other requests are served.

    Deferred writes wait for each other for `group_delay_s`: each wake-up of the thread interrupts the requests.

    While the log is away, a request waits for `timeout_s` and later ones fail at once; deferred writes wait for the
    log or its disk. A write that failed may still become durable, so that its repeat is a duplicate.
    """

    def __init__(self, log: EventLog, settings: CommitSettings | None = None) -> None:
        self._log = log
        self._settings = settings or CommitSettings()
        self._queue: SimpleQueue[_WriteRequest | None] = SimpleQueue()
        self._is_urgent = threading.Event()  # set after a queued request that must not wait for others
        self._write_started: float | None = None  # of the write that is under way, monotonic seconds
        self._outage = OutageLog(_logger.error, _logger.info)
        self._thread = threading.Thread(target=self._write, name="group-commit", daemon=True)
        self._thread.start()

    async def append(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> dict[int, int]:
        """Append (id, value) records durably; returns the first offset by partition.

        `LogUnavailable` if the log fails, or they are not durable in time.
        """
        if self._is_stuck():
            raise timeout_error(self._settings.timeout_s)
        future: asyncio.Future[dict[int, int]] = asyncio.get_running_loop().create_future()
        self._queue.put(_WriteRequest(topic, self._partition_records(topic, records), future))
        self._is_urgent.set()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await future
        except TimeoutError:
            self._outage.report("the event log does not answer; events and items are rejected with 503")
            raise timeout_error(self._settings.timeout_s) from None

    def append_later(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> None:
        """Queue records without waiting; they precede the records of every later call."""
        request = _WriteRequest(topic, self._partition_records(topic, records))
        if self._queue.qsize() >= self._settings.max_deferred:
            _count_lost(request)
        else:
            self._queue.put(request)

    def close(self) -> None:
        """Write the queued records, then stop the thread."""
        self._queue.put(None)
        self._is_urgent.set()
        self._thread.join(self._settings.close_timeout_s)
        if self._thread.is_alive():
            _logger.error("the event log does not answer: about %d deferred writes are lost", self._queue.qsize())

    def _is_stuck(self) -> bool:
        started = self._write_started
        return started is not None and time.monotonic() - started > self._settings.timeout_s

    def _partition_records(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> dict[int, list[Record]]:
        partition_count = self._log.partitions(topic)
        batches: dict[int, list[Record]] = {}
        for key, value in records:
            batches.setdefault(partition_for_id(key, partition_count), []).append((key.encode(), value))
        return batches

    def _write(self) -> None:
        is_closing = False
        deferred: list[_WriteRequest] = []  # whose write has failed
        while not is_closing:
            pending = [*deferred, *self._take(self._settings.retry_delay_s if deferred else None)]
            is_closing = None in pending
            requests = [request for request in pending if request is not None and not request.is_abandoned]
            deferred = []
            for topic, group in groupby(requests, key=attrgetter("topic")):
                deferred += self._commit(topic, list(group))
            if is_closing or len(deferred) > self._settings.max_deferred:
                for request in deferred:
                    _count_lost(request)
                deferred = []

    def _take(self, timeout: float | None) -> "list[_WriteRequest | None]":
        """All queued requests; waits for the first one, up to a timeout, then for its group."""
        try:
            requests = [self._queue.get(timeout=timeout)]
        except Empty:
            return []
        self._is_urgent.wait(self._settings.group_delay_s)
        self._is_urgent.clear()  # before the queue is read, so that no later request is missed
        while not self._queue.empty():
            requests.append(self._queue.get())
        return requests

    def _commit(self, topic: str, group: Sequence[_WriteRequest]) -> list[_WriteRequest]:
        """Write the records of a group; returns the deferred requests to repeat."""
        batches: dict[int, list[Record]] = {}
        for request in group:
            for partition, records in request.batches.items():
                batches.setdefault(partition, []).extend(records)
        self._write_started = time.monotonic()
        try:
            with metrics.log_append_duration_seconds.time():
                first_offsets = dict(self._log.append_many(topic, batches)) if batches else {}
        except Exception as error:
            self._outage.report("cannot append to %s: %s", topic, describe_error(error))
            _report_impressions(group, is_failing=True)
            for request in group:
                _resolve(request, error)
            return [request for request in group if request.future is None and _is_transient(error)]
        finally:
            self._write_started = None
        self._outage.end("the event log accepts writes again")
        _report_impressions(group, is_failing=False)
        for request in group:
            _resolve(request, {partition: first_offsets[partition] for partition in request.batches})
            for partition, records in request.batches.items():
                first_offsets[partition] += len(records)
        return []


def _resolve(request: _WriteRequest, outcome: dict[int, int] | Exception) -> None:
    future = request.future
    if future is not None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            future.get_loop().call_soon_threadsafe(_set_outcome, future, outcome)
    elif isinstance(outcome, Exception) and not _is_transient(outcome):
        _count_lost(request)


def _is_transient(error: Exception) -> bool:
    """Return True if the same write can succeed later."""
    return isinstance(error, ConnectionError) or (isinstance(error, OSError) and error.errno in _DISK_ERRORS)


def _count_lost(request: _WriteRequest) -> None:
    if request.topic == EVENTS:
        metrics.impressions_lost.inc(sum(map(len, request.batches.values())))


def _report_impressions(group: Sequence[_WriteRequest], is_failing: bool) -> None:
    """Report the outcome of a write if it has impressions: these are deferred events."""
    if any(request.topic == EVENTS and request.future is None for request in group):
        metrics.impressions_failing.set(is_failing)


def _set_outcome(future: "asyncio.Future[dict[int, int]]", outcome: dict[int, int] | Exception) -> None:
    if future.done():  # the client has disconnected
        return
    if isinstance(outcome, OSError):
        future.set_exception(LogUnavailable(outcome.errno or errno.EIO, outcome.strerror or str(outcome)))
    elif isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
