"""Reads of the event log for requests, each within a time limit."""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from stream.process.outages import OutageLog

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class LogUnavailable(ConnectionError):
    """The event log fails, or does not answer in time; its state is logged already."""


def timeout_error(timeout_s: float) -> LogUnavailable:
    return LogUnavailable(errno.ETIMEDOUT, f"the event log did not answer within {timeout_s:g} s")


class LogReads:
    """Run reads in threads; while one is late, because its broker is away, others fail at once."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._late: set[asyncio.Future[Any]] = set()
        self._outage = OutageLog(_logger.error, _logger.info)

    async def run(self, read: Callable[[], T]) -> T:
        """Result of a read; `LogUnavailable` after the time limit."""
        if self._late:
            raise timeout_error(self._timeout_s)
        future: asyncio.Future[T] = asyncio.ensure_future(asyncio.to_thread(read))
        done, _ = await asyncio.wait([future], timeout=self._timeout_s)
        if not done:
            self._late.add(future)
            future.add_done_callback(self._finish)
            self._outage.report("the event log does not answer reads; requests that need it get 503")
            raise timeout_error(self._timeout_s)
        result = future.result()
        self._outage.end("the event log answers reads again")
        return result

    def _finish(self, future: "asyncio.Future[Any]") -> None:
        self._late.discard(future)
        if not future.cancelled():
            future.exception()  # it is reported already
