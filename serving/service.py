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
from serving.exploration.explorer import Exploration
from serving.http.errors import Problem
from serving.ingest.event_ingest import Inbox
from serving.ingest.group_commit import Appender
from serving.ingest.pending_writes import Acknowledged
from serving.pipeline.recommender import Recommender
from serving.pipeline.responses import Slate, impression
from serving.pipeline.schemas import Answer, Question
from serving.pipeline.warmup import rehearse
from serving.replica.replica import Replica
from stream.clock import Clock
from stream.config import Settings
from stream.ids import key_of
from stream.logs import EventLog
from stream.records.events import Limits
from stream.stores import UserStore
from stream.topics import EVENTS, ITEMS, USERS
from stream.users.profiles import decode_profile

_POLL = 0.02  # seconds between looks at the log for updates
_TOGETHER = 16  # questions that are answered in one go at most
_PAUSE = 0.006  # seconds at most that the next go waits for more questions
_LOOKS_PER_LAG = 100  # how often it is looked how far behind they are
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """A question that was asked and not yet answered."""

    question: Question
    told: "asyncio.Future[Answer]"
    since: float  # seconds of the performance counter


class Service:
    """Owns nothing but the way to it: a replica, the user store for reading, the log for appending."""

    def __init__(self, log: EventLog, store: UserStore, settings: Settings, clock: Clock) -> None:
        self.log = log
        self.store = store
        self.settings = settings
        self.clock = clock
        self.appender = Appender(log)
        self.replica = Replica(log, settings)
        limits = Limits(settings.events.max_age, settings.events.max_skew)
        acknowledged = Acknowledged(log.partitions(EVENTS))
        self.inbox = Inbox(log, store, self.appender, acknowledged, limits, clock)
        rng = np.random.default_rng(settings.serve.seed or None)
        serve = settings.serve
        self.recommender = Recommender(self.replica, store, acknowledged, serve.candidates, Exploration(serve), rng)
        self._waiting: deque[_Waiting] = deque()
        self._called: asyncio.Handle | None = None  # to answer them
        self._again = 0.0  # the loop's time before which no small go begins
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.warm()
        gc.freeze()  # the collector need not walk through a catalogue that stays, while somebody waits for an answer
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._follower:
            self._follower.cancel()
        self.appender.close()

    def warm(self) -> None:
        """Compile what an answer needs before the first one is asked for."""
        rehearse(Exploration(self.settings.serve))
        self.recommender.answer(Question(user_id="nobody", log=False), "warm", self.clock.now_ms())

    async def answer(self, question: Question) -> Answer:
        """Answer, and log what was shown; 503 when more questions are waiting than can be answered in time."""
        if len(self._waiting) >= self.settings.serve.max_waiting:
            metrics.shed.inc()
            raise Problem(503, "Too many questions are waiting", "come again in a second", {"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        waiting = _Waiting(question, loop.create_future(), time.perf_counter())
        self._waiting.append(waiting)
        self._call(loop)
        return await waiting.told

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have those who wait answered: at once if they are many, else when the last go has been made up for."""
        if len(self._waiting) == _TOGETHER and self._called:  # once: those beyond have been called for
            self._called.cancel()
            self._called = None
        if self._waiting and not self._called:
            self._called = loop.call_at(self._again if len(self._waiting) < _TOGETHER else 0.0, self._answer_waiting)

    def _answer_waiting(self) -> None:
        """Answer those who wait together: what one costs by itself, several share.

        Half of the time is left to others, unless there is enough to do for a full go: so under load fewer and larger
        ones are made, while a question that comes alone is answered at once.
        """
        loop = asyncio.get_running_loop()
        together = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
        begun = loop.time()
        self._answer([one for one in together if not one.told.done()])
        ended = loop.time()
        self._again, self._called = ended + min(_PAUSE, ended - begun), None
        self._call(loop)

    def _answer(self, together: "list[_Waiting]") -> None:
        now = self.clock.now_ms()
        try:
            slates = self.recommender.answer_all([(one.question, secrets.token_hex(12)) for one in together], now)
        except Exception as error:
            if len(together) > 1:  # only whose question it is shall know
                for one in together:
                    self._answer([one])
            elif together:
                together[0].told.set_exception(error)
            return
        self._log_shown([(one.question, slate) for one, slate in zip(together, slates, strict=True)], now)
        for one, slate in zip(together, slates, strict=True):
            metrics.answer_seconds.observe(time.perf_counter() - one.since)
            one.told.set_result(slate.answer)
        metrics.answers.inc(len(together))

    def _log_shown(self, answered: list[tuple[Question, Slate]], now: int) -> None:
        shown = [(question, slate) for question, slate in answered if question.log and slate.answer.items]
        for _, slate in shown:
            self.recommender.note_shown(slate)
        if shown:
            impressions = [(question.user_id, impression(question, slate, now)) for question, slate in shown]
            self.appender.append_later(EVENTS, impressions)

    async def put_items(self, records: list[tuple[str, bytes | None]]) -> None:
        """Write items; they are in this process's catalogue when this returns."""
        await self.appender.append(ITEMS, records)
        await self._take_news()

    async def forget(self, user_id: str) -> None:
        """Ask the stream worker to forget a person, and wait a moment for it to have done so."""
        offset = max((await self.appender.append(USERS, [(user_id, None)])).values())
        for _ in range(200):
            if self._users_offset(user_id) >= offset:
                return
            await asyncio.sleep(0.01)

    def _users_offset(self, user_id: str) -> int:
        try:
            value = self.store.get(key_of(user_id))
        except OSError:  # the order to forget is in the log, and will be carried out
            return -1
        return -1 if value is None else decode_profile(value).users_offset

    async def lag(self) -> dict[str, int]:
        by_partition = await asyncio.to_thread(self.replica.lag, EVENTS)
        metrics.lag.set(sum(by_partition.values()))
        return by_partition

    async def _take_news(self) -> int:
        """Apply what has come in, read beside the answers: a broker may take its time."""
        return self.replica.take(await asyncio.to_thread(self.replica.look))

    async def _follow(self) -> None:
        """Bring the replica up to date between answers."""
        for look in count():
            try:
                while await self._take_news():
                    await asyncio.sleep(0)
                if look % _LOOKS_PER_LAG == 0:
                    metrics.catalogue_items.set(len(self.replica.catalogue))
                    await self.lag()
            except Exception:
                # Answers go on from what is there; were this task to end, they would grow old without a word.
                _logger.exception("cannot follow the log")
                metrics.fallbacks.labels("updates").inc()
                await asyncio.sleep(1)
            await asyncio.sleep(_POLL)
