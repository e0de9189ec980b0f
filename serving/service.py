"""State and lifecycle of the serve process, shared by all routes."""

import asyncio
import gc
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import msgspec
import numpy as np

from serving import metrics
from serving.exploration.explorer import Explorer
from serving.ingest.event_ingest import EventIngest
from serving.ingest.event_lookup import build_retraction, find_event
from serving.ingest.group_commit import CommitSettings, GroupCommitWriter
from serving.ingest.pending_writes import PendingWrites
from serving.pipeline.batcher import BatchSettings, RequestBatcher
from serving.pipeline.recommender import Recommender, RecommenderSettings
from serving.pipeline.responses import Slate, impression_event
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.pipeline.warmup import warm_up
from serving.replica.log_reads import LogReads
from serving.replica.replica import Replica
from serving.replica.stored_users import StoredUsers
from serving.rules.rule_book import RuleBook
from stream.clock import Clock
from stream.config import Settings
from stream.ids import hash_id
from stream.logs import EventLog
from stream.monitoring.heartbeat import Heartbeat
from stream.process.errors import describe_error
from stream.process.locks import wait_for_lock
from stream.process.outages import OutageLog
from stream.records.events import ALIAS, Limits
from stream.records.timestamps import validate_time
from stream.stores import UserStore
from stream.topics import EVENTS, ITEMS, USERS
from stream.users.profiles import decode_profile
from stream.users.pseudonyms import Pseudonyms

T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PollSettings:
    """Pace at which the service follows the log."""

    interval_s: float = 0.02  # between polls for model updates
    polls_per_lag_update: int = 100
    retry_delay_s: float = 1.0  # after a failed poll
    forget_interval_s: float = 0.01  # between reads of the record of a user to forget
    forget_timeout_s: float = 2.0


class Service:
    """Serve from a replica, a user store for reading and a log for appending."""

    def __init__(
        self, log: EventLog, store: UserStore, settings: Settings, clock: Clock, polls: PollSettings | None = None
    ) -> None:
        self.log = log
        self.store = store
        self.settings = settings
        self.clock = clock
        self.writer = GroupCommitWriter(log, CommitSettings(settings.serve.log_timeout))
        self._reads = LogReads(settings.serve.log_timeout)
        self.known_lag: dict[str, int] = {}  # as it was measured last
        self._lag_measured_ms = clock.now_ms()
        self.replica = Replica(log, settings)
        self.pseudonyms = Pseudonyms(settings.events.user_id_secret)
        self.stored_users = StoredUsers(log, store)
        limits = Limits(settings.events.max_age, settings.events.max_skew)
        pending_writes = PendingWrites(log.partitions(EVENTS))
        self.event_ingest = EventIngest(log, store, self.writer, pending_writes, limits, clock)
        serve = settings.serve
        rng = np.random.default_rng(serve.seed or None)
        ranking = RecommenderSettings(serve.candidates)
        rules = RuleBook(serve.rules)
        self.recommender = Recommender(self.replica, store, pending_writes, ranking, Explorer(serve), rng, rules)
        self._batcher = RequestBatcher(
            self._recommend_and_log, serve.max_queue, BatchSettings(max_wait_s=serve.max_wait)
        )
        self._polls = polls or PollSettings()
        self._item_lock, self._user_lock = asyncio.Lock(), asyncio.Lock()
        self._data_folder = settings.data.folder
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.warm_up()
        gc.freeze()  # the catalog stays: the collector need not visit it during a request
        self._tasks = [asyncio.create_task(self._poll_updates()), asyncio.create_task(self.stored_users.watch())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.writer.close()

    def warm_up(self) -> None:
        """Compile the kernels of a request before the first one arrives."""
        warm_up(Explorer(self.settings.serve))
        self.recommender.recommend(RecommendationRequest(user_id="nobody", log=False), "warm-up", self.clock.now_ms())

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        """Return a slate and log its impression; `Overloaded` if the request would wait too long."""
        if self.pseudonyms.is_enabled:
            user_id, session_id = (
                name and self.pseudonyms.replace(name) for name in (request.user_id, request.session_id)
            )
            request = msgspec.structs.replace(request, user_id=user_id, session_id=session_id)
        return await self._batcher.submit(request)

    def check_wait(self) -> None:
        """Raise `Overloaded` if a request for recommendations that arrives now would wait too long."""
        self._batcher.check_wait()

    def check_time(self, request: RecommendationRequest) -> None:
        """Raise ValueError if the impression would be rejected for its time."""
        if request.log and request.ts is not None:
            now, events = self.clock.now_ms(), self.settings.events
            if error := validate_time(request.event_ts(now), now, events.max_age, events.max_skew):
                raise ValueError(f"{error[1]}; `log` false answers for any time, and logs no impression")

    def _recommend_and_log(self, requests: Sequence[RecommendationRequest]) -> list[RecommendationResponse]:
        now = self.clock.now_ms()
        slates = self.recommender.recommend_batch([(request, secrets.token_hex(12)) for request in requests], now)
        self._log_impressions(list(zip(requests, slates, strict=True)), now)
        return [slate.response for slate in slates]

    def _log_impressions(self, results: list[tuple[RecommendationRequest, Slate]], now: int) -> None:
        loggable = [
            (request, slate)
            for request, slate in results
            if request.log and slate.response.items and not slate.is_private
        ]
        for _, slate in loggable:
            self.recommender.record_impression(slate)
        if loggable:
            impressions = [
                (request.user or slate.response.impression_id, impression_event(request, slate, now))
                for request, slate in loggable
            ]
            self.writer.append_later(EVENTS, impressions)

    async def retract_event(self, event_id: str, user_id: str | None) -> None:
        """Take an action back; it is durable when this returns.

        `EventNotFound` if neither the log nor the caller names its user, `EventNotRetractable` if it is an impression
        or of another user.
        """
        event = await self.read_log(lambda: find_event(self.log, event_id))
        retraction = build_retraction(event_id, user_id, event, secrets.token_hex(12), self.clock.now_ms())
        await self.event_ingest.ingest([msgspec.Raw(msgspec.json.encode(retraction))])

    async def put_items(self, records: list[tuple[str, bytes | None]]) -> None:
        """Write items; this process's catalog has them when this returns."""
        await self.writer.append(ITEMS, records)
        self.replica.apply(await self.read_log(self.replica.fetch))

    async def change_item(self, item_id: str, change: Callable[[], bytes | None]) -> None:
        """Write the result of `change`, which reads the newest catalog; None deletes the item.

        The processes that share the data folder make one change at a time.
        """
        async with self._item_lock, self._hold_lock("items"):
            self.replica.apply(await self.read_log(self.replica.fetch))
            await self.put_items([(item_id, change())])

    @asynccontextmanager
    async def _hold_lock(self, name: str) -> AsyncIterator[None]:
        """Keep the other processes that share the data folder from the same kind of change.

        A folder that this process cannot write, as on Kubernetes, has no lock.
        """
        with ExitStack() as stack:
            with suppress(OSError):
                stack.enter_context(await asyncio.to_thread(wait_for_lock, self._data_folder / f"{name}.lock"))
            yield

    async def read_log(self, read: Callable[[], T]) -> T:
        """Run a read of the log in a thread; `LogUnavailable` if it does not answer in time."""
        return await self._reads.run(read)

    async def forget_user(self, user_id: str) -> None:
        """Ask the stream worker to forget a user, and wait up to `forget_timeout_s` for it."""
        await self._write_user(user_id, None)

    async def merge_users(self, anonymous_id: str, account_id: str) -> None:
        """Join an anonymous user to an account; it is durable when this returns."""
        event = {
            "event_id": secrets.token_hex(12), "type": ALIAS, "ts": self.clock.now_ms(), "user_id": account_id,
            "anonymous_id": anonymous_id,
        }  # fmt: skip
        await self.event_ingest.ingest([msgspec.Raw(msgspec.json.encode(event))])

    async def change_user(self, user_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Write the result of `change` for the attributes of a user; one change at a time.

        It waits up to `forget_timeout_s` for the stream worker.
        """
        async with self._user_lock, self._hold_lock("users"):
            value = self.store.get(hash_id(user_id))
            stored = decode_profile(value).attributes if value is not None else b""
            fields = change(msgspec.json.decode(stored) if stored else {})
            if fields.get("consent") is False:
                fields = {"consent": False}
            await self._write_user(user_id, msgspec.json.encode(fields))

    async def _write_user(self, user_id: str, value: bytes | None) -> None:
        offset = max((await self.writer.append(USERS, [(user_id, value)])).values())
        deadline = asyncio.get_running_loop().time() + self._polls.forget_timeout_s
        while self._read_users_offset(user_id) < offset and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(self._polls.forget_interval_s)

    def _read_users_offset(self, user_id: str) -> int:
        """Offset of the last record of the users topic in the stored profile, -1 if unknown."""
        try:
            value = self.store.get(hash_id(user_id))
        except OSError:  # the request to forget is in the log and takes effect later
            return -1
        return -1 if value is None else decode_profile(value).users_offset

    async def measure_lag(self) -> dict[str, int]:
        """Acknowledged events that the replica does not cover yet, by partition.

        `LogUnavailable` if the log does not answer; `known_lag` stays as it was.
        """
        missing = self.stored_users.missing
        lag_by_partition = await self.read_log(lambda: self.replica.lag(EVENTS, missing))
        self.known_lag, self._lag_measured_ms = lag_by_partition, self.clock.now_ms()
        metrics.lag.set(sum(lag_by_partition.values()))
        return lag_by_partition

    @property
    def known_lag_age_s(self) -> float:
        return (self.clock.now_ms() - self._lag_measured_ms) / 1000

    async def _apply_updates(self) -> int:
        """Apply new updates; a thread reads them, since a broker may be slow."""
        n_updates = self.replica.apply(await asyncio.to_thread(self.replica.fetch))
        self.replica.advance(self.clock.now_ms())
        return n_updates

    async def _poll_updates(self) -> None:
        """Update the replica between requests."""
        heartbeat = Heartbeat("serve")
        outage = OutageLog(_logger.error, _logger.info)
        for iteration in count():
            try:
                while await self._apply_updates():
                    heartbeat.beat()
                    await asyncio.sleep(0)
                heartbeat.beat()
                metrics.catalog_items.set(len(self.replica.catalog))
                if iteration % self._polls.polls_per_lag_update == 0:
                    await self.measure_lag()
                outage.end("model updates are read from the log again")
            except Exception as error:
                # Requests are served from the current state. If this task ended, that state would age unnoticed.
                if isinstance(error, OSError):
                    outage.report("cannot read model updates from the log; retrying: %s", describe_error(error))
                else:
                    _logger.exception("cannot read model updates from the log; retrying")
                metrics.fallbacks.labels("updates").inc()
                await asyncio.sleep(self._polls.retry_delay_s)
            await asyncio.sleep(self._polls.interval_s)
