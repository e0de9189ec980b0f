"""Serve concurrent requests in batches, which share the fixed cost of the pipeline."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving import metrics
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse

Recommend = Callable[[Sequence[RecommendationRequest]], list[RecommendationResponse]]


class Overloaded(Exception):
    """A request would wait too long; retry after `retry_after_s` seconds."""

    def __init__(self, n_waiting: int, retry_after_s: int = 1) -> None:
        super().__init__(f"{n_waiting} recommendation requests are waiting; retry in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Size and pace of batches."""

    max_requests: int = 16  # requests per batch
    max_delay_s: float = 0.006  # longest pause before the next batch that is not full
    max_wait_s: float = 0.025  # expected time until the batch of a request starts; above it the request is rejected
    smoothing: float = 0.2  # weight of the latest full batch in the mean time per batch


@dataclass(slots=True)
class _PendingRequest:
    """A request that waits for its response."""

    request: RecommendationRequest
    future: "asyncio.Future[RecommendationResponse]"
    start_time: float  # seconds of the performance counter


class RequestBatcher:
    """Queue requests and serve them in batches; reject those that would wait too long.

    A request that comes alone is served at once. After each batch, as much time is left to other tasks as the batch
    took, unless a full batch is waiting: under load, batches become fewer and larger.

    The expected wait of a request is the number of requests before it times their mean time in full batches. A request
    with less than a full batch before it is never rejected, so the mean follows a process that becomes faster again.
    """

    def __init__(self, recommend: Recommend, max_queue: int, settings: BatchSettings | None = None) -> None:
        self._recommend = recommend
        self._max_queue = max_queue
        self._settings = settings or BatchSettings()
        self._pending: deque[_PendingRequest] = deque()
        self._scheduled: asyncio.Handle | None = None  # the next batch
        self._next_batch_time = 0.0  # time of the event loop before which only a full batch starts
        self._seconds_per_batch = 0.0  # mean of full batches; 0 before the first one
        self._full_batch_time: float | None = None  # time since when the next full batch has been waiting

    def check_wait(self) -> None:
        """Raise `Overloaded` if a request that arrives now would wait too long."""
        n_waiting, settings = len(self._pending), self._settings
        n_batches = n_waiting / settings.max_requests
        is_late = n_batches >= 1 and n_batches * self._seconds_per_batch > settings.max_wait_s
        if is_late or n_waiting >= self._max_queue:
            metrics.recommendations_shed.inc()
            raise Overloaded(n_waiting)

    async def submit(self, request: RecommendationRequest) -> RecommendationResponse:
        """Wait for the response to a request; `Overloaded` if it would wait too long."""
        self.check_wait()
        loop = asyncio.get_running_loop()
        pending = _PendingRequest(request, loop.create_future(), time.perf_counter())
        self._pending.append(pending)
        self._schedule(loop)
        return await pending.future

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule the next batch: at once if it is full, else after the pause."""
        max_requests = self._settings.max_requests
        if len(self._pending) == max_requests and self._scheduled:  # only once: a longer queue is already scheduled
            self._scheduled.cancel()
            self._scheduled = None
        if self._pending and not self._scheduled:
            start_time = self._next_batch_time if len(self._pending) < max_requests else 0.0
            self._scheduled = loop.call_at(start_time, self._process_next_batch)

    def _process_next_batch(self) -> None:
        loop = asyncio.get_running_loop()
        size = min(self._settings.max_requests, len(self._pending))
        batch = [self._pending.popleft() for _ in range(size)]
        start = loop.time()
        self._process([pending for pending in batch if not pending.future.done()])
        end = loop.time()
        self._measure(size, start, end)
        self._next_batch_time = end + min(self._settings.max_delay_s, end - start)
        self._scheduled = None
        self._schedule(loop)

    def _measure(self, size: int, start: float, end: float) -> None:
        """Update the mean time per full batch, with the time of other tasks between two of them."""
        max_requests, smoothing = self._settings.max_requests, self._settings.smoothing
        if size == max_requests:
            seconds = end - (start if self._full_batch_time is None else self._full_batch_time)
            mean = self._seconds_per_batch or seconds
            self._seconds_per_batch = mean + smoothing * (seconds - mean)
        self._full_batch_time = end if len(self._pending) >= max_requests else None

    def _process(self, batch: list[_PendingRequest]) -> None:
        """Resolve the futures of a batch.

        After an error each request runs alone, so that only the caller of the failing one gets it.
        """
        try:
            responses = self._recommend([pending.request for pending in batch])
        except Exception as error:
            if len(batch) > 1:
                for pending in batch:
                    self._process([pending])
            elif batch:
                batch[0].future.set_exception(error)
            return
        for pending, response in zip(batch, responses, strict=True):
            metrics.recommendation_duration_seconds.observe(time.perf_counter() - pending.start_time)
            pending.future.set_result(response)
        metrics.recommendations.inc(len(batch))
