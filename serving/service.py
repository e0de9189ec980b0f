"""The serve process: everything that the routes share, and its life."""

import asyncio
import gc
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass
from itertools import count

import numpy as np

from serving import metrics
from serving.exploration.explorer import Explorer
from serving.http.errors import Problem
from serving.ingest.event_ingest import EventIngest
from serving.ingest.group_commit import GroupCommitWriter
from serving.ingest.pending_writes import PendingWrites
from serving.pipeline.recommender import Recommender
from serving.pipeline.responses import Slate, impression_event
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.pipeline.warmup import warm_up
from serving.replica.replica import Replica
from stream.clock import Clock
from stream.config import Settings
from stream.ids import hash_id
from stream.logs import EventLog
from stream.records.events import Limits
from stream.stores import UserStore
from stream.topics import EVENTS, ITEMS, USERS
from stream.users.profiles import decode_profile

_POLL_INTERVAL = 0.02  # seconds between looks at the log for updates
_MAX_BATCH = 16  # questions that are answered in one go at most
_MAX_BATCH_DELAY = 0.006  # seconds at most that the next go waits for more questions
_POLLS_PER_LAG_UPDATE = 100  # how often it is looked how far behind they are
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _PendingRequest:
    """A question that was asked and not yet answered."""

    request: RecommendationRequest
    future: "asyncio.Future[RecommendationResponse]"
    start_time: float  # seconds of the performance counter


class Service:
    """Owns nothing but the way to it: a replica, the user store for reading, the log for appending."""

    def __init__(self, log: EventLog, store: UserStore, settings: Settings, clock: Clock) -> None:
        self.log = log
        self.store = store
        self.settings = settings
        self.clock = clock
        self.writer = GroupCommitWriter(log)
        self.replica = Replica(log, settings)
        limits = Limits(settings.events.max_age, settings.events.max_skew)
        pending_writes = PendingWrites(log.partitions(EVENTS))
        self.event_ingest = EventIngest(log, store, self.writer, pending_writes, limits, clock)
        rng = np.random.default_rng(settings.serve.seed or None)
        serve = settings.serve
        self.recommender = Recommender(self.replica, store, pending_writes, serve.candidates, Explorer(serve), rng)
        self._pending: deque[_PendingRequest] = deque()
        self._scheduled: asyncio.Handle | None = None  # to answer them
        self._next_batch_time = 0.0  # the loop's time before which no small go begins
        self._update_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.warm_up()
        gc.freeze()  # the collector need not walk through a catalogue that stays, while somebody waits for an answer
        self._update_task = asyncio.create_task(self._poll_updates())

    async def stop(self) -> None:
        if self._update_task:
            self._update_task.cancel()
        self.writer.close()

    def warm_up(self) -> None:
        """Compile what an answer needs before the first one is asked for."""
        warm_up(Explorer(self.settings.serve))
        self.recommender.recommend(RecommendationRequest(user_id="nobody", log=False), "warm-up", self.clock.now_ms())

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        """Answer, and log what was shown; 503 when more questions are waiting than can be answered in time."""
        if len(self._pending) >= self.settings.serve.max_queue:
            metrics.recommendations_shed.inc()
            raise Problem(503, "Too many questions are waiting", "come again in a second", {"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        pending = _PendingRequest(request, loop.create_future(), time.perf_counter())
        self._pending.append(pending)
        self._schedule(loop)
        return await pending.future

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have those who wait answered: at once if they are many, else when the last go has been made up for."""
        if len(self._pending) == _MAX_BATCH and self._scheduled:  # once: those beyond have been called for
            self._scheduled.cancel()
            self._scheduled = None
        if self._pending and not self._scheduled:
            self._scheduled = loop.call_at(
                self._next_batch_time if len(self._pending) < _MAX_BATCH else 0.0, self._process_pending
            )

    def _process_pending(self) -> None:
        """Answer those who wait together: what one costs by itself, several share.

        Half of the time is left to others, unless there is enough to do for a full go: so under load fewer and larger
        ones are made, while a question that comes alone is answered at once.
        """
        loop = asyncio.get_running_loop()
        batch = [self._pending.popleft() for _ in range(min(_MAX_BATCH, len(self._pending)))]
        start = loop.time()
        self._process_batch([pending for pending in batch if not pending.future.done()])
        end = loop.time()
        self._next_batch_time, self._scheduled = end + min(_MAX_BATCH_DELAY, end - start), None
        self._schedule(loop)

    def _process_batch(self, batch: "list[_PendingRequest]") -> None:
        now = self.clock.now_ms()
        try:
            slates = self.recommender.recommend_batch(
                [(pending.request, secrets.token_hex(12)) for pending in batch], now
            )
        except Exception as error:
            if len(batch) > 1:  # only whose question it is shall know
                for pending in batch:
                    self._process_batch([pending])
            elif batch:
                batch[0].future.set_exception(error)
            return
        self._log_impressions([(pending.request, slate) for pending, slate in zip(batch, slates, strict=True)], now)
        for pending, slate in zip(batch, slates, strict=True):
            metrics.recommendation_duration_seconds.observe(time.perf_counter() - pending.start_time)
            pending.future.set_result(slate.response)
        metrics.recommendations.inc(len(batch))

    def _log_impressions(self, results: list[tuple[RecommendationRequest, Slate]], now: int) -> None:
        loggable = [(request, slate) for request, slate in results if request.log and slate.response.items]
        for _, slate in loggable:
            self.recommender.record_impression(slate)
        if loggable:
            impressions = [(request.user_id, impression_event(request, slate, now)) for request, slate in loggable]
            self.writer.append_later(EVENTS, impressions)

    async def put_items(self, records: list[tuple[str, bytes | None]]) -> None:
        """Write items; they are in this process's catalogue when this returns."""
        await self.writer.append(ITEMS, records)
        await self._apply_updates()

    async def forget_user(self, user_id: str) -> None:
        """Ask the stream worker to forget a person, and wait a moment for it to have done so."""
        offset = max((await self.writer.append(USERS, [(user_id, None)])).values())
        for _ in range(200):
            if self._read_users_offset(user_id) >= offset:
                return
            await asyncio.sleep(0.01)

    def _read_users_offset(self, user_id: str) -> int:
        try:
            value = self.store.get(hash_id(user_id))
        except OSError:  # the order to forget is in the log, and will be carried out
            return -1
        return -1 if value is None else decode_profile(value).users_offset

    async def measure_lag(self) -> dict[str, int]:
        lag_by_partition = await asyncio.to_thread(self.replica.lag, EVENTS)
        metrics.lag.set(sum(lag_by_partition.values()))
        return lag_by_partition

    async def _apply_updates(self) -> int:
        """Apply what has come in, read beside the answers: a broker may take its time."""
        return self.replica.apply(await asyncio.to_thread(self.replica.fetch))

    async def _poll_updates(self) -> None:
        """Bring the replica up to date between answers."""
        for iteration in count():
            try:
                while await self._apply_updates():
                    await asyncio.sleep(0)
                if iteration % _POLLS_PER_LAG_UPDATE == 0:
                    metrics.catalog_items.set(len(self.replica.catalog))
                    await self.measure_lag()
            except Exception:
                # Answers go on from what is there; were this task to end, they would grow old without a word.
                _logger.exception("cannot follow the log")
                metrics.fallbacks.labels("updates").inc()
                await asyncio.sleep(1)
            await asyncio.sleep(_POLL_INTERVAL)
