"""Buffers that send events in batches, in the background, and lose none silently."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

from headrace.client.calls import encode_event
from headrace.client.errors import ClientError, EventsNotSent
from headrace.client.pending_events import BufferCounts, BufferSettings, PendingEvents
from serving.records import IngestResult, RefusedRecord
from stream.clock import Clock
from stream.process.outages import OutageLog

_logger = logging.getLogger(__name__)


class _Buffer:
    """Counts and settlement that both buffers share."""

    def __init__(self, settings: BufferSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._pending = PendingEvents(settings)
        self._outage = OutageLog(_logger.warning, _logger.info)

    @property
    def counts(self) -> BufferCounts:
        return self._pending.counts

    @property
    def last_refusal(self) -> RefusedRecord | None:
        """Last event that the server refused, with the reason."""
        return self._pending.last_refusal

    def _add(self, event: Mapping[str, Any]) -> bool:
        return self._pending.add(encode_event(event, self._clock))

    def _settle(self, batch: Sequence[bytes], result: IngestResult) -> None:
        if result.refused and self._pending.last_refusal is None:
            _logger.warning("the server refused an event: %s; `counts` has the number", result.refused[0].reason)
        self._pending.settle(len(batch), result)
        self._outage.end("the server accepts events again")

    def _report_failure(self, error: ClientError) -> None:
        self._pending.count_failure()
        self._outage.report("events wait for the server: %s", error)


class EventBuffer(_Buffer):
    """Send events from a thread; threads may share one buffer.

    Events stay in the buffer until the server has taken or refused them; their ids make a repeat harmless.
    """

    def __init__(self, send: Callable[[Sequence[bytes]], IngestResult], settings: BufferSettings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self._send = send
        self._sending = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-events", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, event: Mapping[str, Any]) -> None:
        """Queue an event, with an id and a time; `BufferFull` if too many wait."""
        if self._add(event):
            self._wake.set()

    def flush(self) -> None:
        """Send all events now; `ClientError` if the server does not take them: they stay."""
        with self._sending:
            while batch := self._pending.next_batch():
                self._settle(batch, self._send(batch))

    def close(self) -> None:
        """Send all events and end the thread; `EventsNotSent` carries the others."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        try:
            self.flush()
        except ClientError as error:
            raise EventsNotSent(self._pending.list_waiting(), error) from error

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._settings.interval_s)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self.flush()
            except ClientError as error:
                self._report_failure(error)
                self._stop.wait(self._settings.interval_s)


class AsyncEventBuffer(_Buffer):
    """Send events from a task of the event loop; otherwise like `EventBuffer`."""

    def __init__(
        self, send: Callable[[Sequence[bytes]], Awaitable[IngestResult]], settings: BufferSettings, clock: Clock
    ) -> None:
        super().__init__(settings, clock)
        self._send = send
        self._sending = asyncio.Lock()
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def add(self, event: Mapping[str, Any]) -> None:
        """Queue an event, with an id and a time; `BufferFull` if too many wait."""
        if self._add(event):
            self._wake.set()

    async def flush(self) -> None:
        """Send all events now; `ClientError` if the server does not take them: they stay."""
        async with self._sending:
            while batch := self._pending.next_batch():
                self._settle(batch, await self._send(batch))

    async def close(self) -> None:
        """Send all events and end the task; `EventsNotSent` carries the others."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        try:
            await self.flush()
        except ClientError as error:
            raise EventsNotSent(self._pending.list_waiting(), error) from error

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.interval_s)
            self._wake.clear()
            try:
                await self.flush()
            except ClientError as error:
                self._report_failure(error)
                await asyncio.sleep(self._settings.interval_s)
