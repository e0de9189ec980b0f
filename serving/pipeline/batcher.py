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
    """The queue of recommendation requests is full; retry after `retry_after_s` seconds."""

    def __init__(self, max_queue: int, retry_after_s: int = 1) -> None:
        super().__init__(f"{max_queue} recommendation requests are waiting; retry in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Size and pace of batches."""

    max_requests: int = 16  # requests per batch
    max_delay_s: float = 0.006  # longest pause before the next batch that is not full


@dataclass(slots=True)
class _PendingRequest:
    """A request that waits for its response."""

    request: RecommendationRequest
    future: "asyncio.Future[RecommendationResponse]"
    start_time: float  # seconds of the performance counter


class RequestBatcher:
    """Queue requests and serve them in batches; `Overloaded` when the queue is full.

    A request that comes alone is served at once. After each batch, as much time is left to other tasks as the batch
    took, unless a full batch is waiting: under load, batches become fewer and larger.
    """

    def __init__(self, recommend: Recommend, max_queue: int, settings: BatchSettings | None = None) -> None:
        self._recommend = recommend
        self._max_queue = max_queue
        self._settings = settings or BatchSettings()
        self._pending: deque[_PendingRequest] = deque()
        self._scheduled: asyncio.Handle | None = None  # the next batch
        self._next_batch_time = 0.0  # time of the event loop before which only a full batch starts

    async def submit(self, request: RecommendationRequest) -> RecommendationResponse:
        """Wait for the response to a request."""
        if len(self._pending) >= self._max_queue:
            metrics.recommendations_shed.inc()
            raise Overloaded(self._max_queue)
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
        self._next_batch_time = end + min(self._settings.max_delay_s, end - start)
        self._scheduled = None
        self._schedule(loop)

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
