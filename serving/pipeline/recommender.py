"""The pipeline: user state → candidates → features → ranker → exploration → slate, readable top to bottom."""

import logging
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

import msgspec
import numpy as np

from online_models.rankers.click_head import chance_of
from serving import metrics
from serving.exploration.explorer import FRESH, Exploration
from serving.exploration.fresh_items import AT_ONCE
from serving.exploration.slate_filling import NOTHING_FRESH, Fresh, fill
from serving.ingest.pending_writes import Acknowledged
from serving.pipeline.candidates import candidates_of, given, hidden_from
from serving.pipeline.ranking import Ranked, ranked
from serving.pipeline.responses import Slate, slates_of, tell
from serving.pipeline.schemas import Asked, Question
from serving.replica.replica import Replica
from stream.ids import key_of, keys_of
from stream.records.batches import EventType, Questions
from stream.records.decoding import context_keys
from stream.stores import UserStore
from stream.users.profiles import NOBODY, Profile, decode_profile, questions_of

_FIRST_SHOWN = 5000.0  # places that have to be shown before what became of them is all that counts
_QUIET = 5_000  # ms between warnings of one kind
_READING, _RANKING, _EXPLORING = map(metrics.stage_seconds.labels, ("user", "rank", "explore"))
_logger = logging.getLogger(__name__)


class Recommender:
    """Answers questions from a replica and one read of the user store; changes nothing but its generator."""

    def __init__(
        self,
        replica: Replica,
        store: UserStore,
        acknowledged: Acknowledged,
        candidates: int,
        exploration: Exploration,
        rng: np.random.Generator,
    ) -> None:
        self._replica = replica
        self._store = store
        self._acknowledged = acknowledged
        self._candidates = candidates
        self._exploration = exploration
        self._rng = rng
        self._quiet_until = 0  # ms

    def answer(self, question: Question, impression_id: str, now: int) -> Slate:
        """The slate for a question asked at `now`, ms."""
        return self.answer_all([(question, impression_id)], now)[0]

    def answer_all(self, questions: Sequence[tuple[Question, str]], now: int) -> list[Slate]:
        """The slates for questions with their impression ids, as if each were asked alone."""
        with _READING.time():
            asked = self._read(questions, now)
        slates: dict[str, Slate] = {}
        for _, group in groupby(sorted(asked, key=attrgetter("kind")), key=attrgetter("kind")):
            together = list(group)
            slates |= {slate.answer.impression_id: slate for slate in self._answer_alike(together)}
        told = [slates[impression_id] for _, impression_id in questions]
        tell(self._replica.stack, told)
        return told

    def _answer_alike(self, asked: list[Asked]) -> list[Slate]:
        """Slates for questions of one kind."""
        names = None
        with _RANKING.time():
            if asked[0].question.candidates is None:
                judged = self._rank(asked)
            else:
                judged, names = self._rank_given(asked)
            metrics.candidates.inc(judged.found.row.size)
        with _EXPLORING.time():
            weighed = self._weigh(asked, judged)
            size = asked[0].question.size
            chosen = [fill(judged.best_of(i), fresh, size, self._rng) for i, fresh in enumerate(weighed)]
        return slates_of(self._replica, asked, judged, weighed, chosen, self._exploration.policy, names)

    def similar(self, key: int, k: int) -> list[tuple[str, float]]:
        """Neighbours of an item, best first, with their scores."""
        stack = self._replica.stack
        row = stack.items.find(np.array([key], np.uint64))[0]
        if row < 0:
            return []
        found = stack.similar(int(row), 2 * k)
        rows = found.row[(self._replica.eligible[found.row] == 1) & (found.row != row)][:k]
        return [(name, round(1 / (1 + place), 6)) for place, name in enumerate(self._replica.names_of(rows))]

    def note_shown(self, slate: Slate) -> None:
        """Say that a slate was shown, and not only asked for."""
        self._exploration.spend(slate.fresh, slate.chosen)

    def _read(self, questions: Sequence[tuple[Question, str]], now: int) -> list[Asked]:
        """What is known of the people, and whether it is stale: the store is away, or has not kept up with them."""
        users = keys_of([question.user_id for question, _ in questions])
        try:
            known = [
                self._known(user, value, now) for user, value in zip(users, self._store.get_many(users), strict=True)
            ]
        except OSError as error:
            known = [self._without(error, now) for _ in questions]
        return [
            Asked(question, impression_id, user, profile, stale, now if question.ts is None else question.ts)
            for (question, impression_id), user, (profile, stale) in zip(questions, users.tolist(), known, strict=True)
        ]

    def _known(self, user: int, value: bytes | None, now: int) -> tuple[Profile, bool]:
        try:
            profile = NOBODY if value is None else decode_profile(value)
        except (ValueError, msgspec.DecodeError) as error:  # a record that this code cannot read
            return self._without(error, now)
        behind = self._acknowledged.is_behind(int(user), profile.offset, self._replica.covered, now)
        if behind:
            metrics.fallbacks.labels("record").inc()
        return profile, behind

    def _without(self, error: Exception, now: int) -> tuple[Profile, bool]:
        """Somebody of whom nothing can be read: the answer is made from the context alone."""
        if now >= self._quiet_until:  # while the store is away everybody is such a one
            self._quiet_until = now + _QUIET
            _logger.warning("the user store cannot be read, answering from context alone: %s", error)
        metrics.fallbacks.labels("store").inc()
        return NOBODY, True

    def _rank(self, asked: Sequence[Asked]) -> Ranked:
        """Candidates of all channels that may be shown, best first."""
        replica, stack = self._replica, self._replica.stack
        questions = [one.question for one in asked]
        size, explores = questions[0].size, questions[0].explore
        people = stack.people(_columns(asked))
        hidden = hidden_from(stack, questions, [one.profile for one in asked])
        fresh = self._exploration.pool(replica).rows if explores else NOTHING_FRESH.rows
        per_channel, most = max(size, self._candidates // 4), max(size, self._candidates)
        found = candidates_of(replica, questions, people, hidden, fresh, per_channel, most)
        return ranked(stack, people, found, self._trust(), size + AT_ONCE)

    def _rank_given(self, asked: Sequence[Asked]) -> tuple[Ranked, list[str]]:
        """Exactly the items asked for, best first."""
        stack = self._replica.stack
        questions = [one.question for one in asked]
        found, names = given(stack, questions)
        people = stack.people(_columns(asked))
        return ranked(stack, people, found, self._trust(), questions[0].size), names

    def _weigh(self, asked: Sequence[Asked], judged: Ranked) -> list[Fresh]:
        """Of each question the items that may be drawn, as entries of its list."""
        size, over_slate = asked[0].question.size, self._exploration.over_slate and _may_draw(asked[0].question)
        at = judged.explored_over(FRESH, size + AT_ONCE if over_slate else 0)
        if at.size == 0:
            return [NOTHING_FRESH] * len(asked)
        rows, start = judged.found.row[at], np.searchsorted(at, judged.found.start)
        best, chances = judged.best[:, :size], chance_of(judged.odds).astype(float)
        earned = np.where(best >= 0, chances[best], 0).sum(axis=1) / np.maximum((best >= 0).sum(axis=1), 1)
        stack = self._replica.stack
        told = self._exploration.told(stack, rows, judged.features, at, chances[at])
        if not over_slate:
            return self._exploration.weigh(at, rows, start, told, earned, size)
        shown = stack.items.counters["ever"][rows, EventType.impression].astype(float)
        return self._exploration.weigh_slate(at, rows, start, told, shown, earned, size)

    def _trust(self) -> float:
        """The more was shown, the more it counts what became of it; all, after two places for each action ever.

        What people pick of everything cannot be learnt from our own slates: it would be mistaken for what we showed.
        """
        shown, acted = self._replica.ever[EventType.impression], self._replica.ever[EventType.impression + 1 :].sum()
        return min(1.0, float(shown) / (_FIRST_SHOWN + 2.0 * float(acted)))


def _may_draw(question: Question) -> bool:
    """Whether places may be given by chance: lists that were handed in are ranked and nothing else."""
    return question.explore and question.candidates is None


def _columns(asked: Sequence[Asked]) -> Questions:
    return questions_of(
        [one.profile for one in asked],
        [one.user for one in asked],
        [one.ts for one in asked],
        [key_of(one.question.surface) if one.question.surface else 0 for one in asked],
        [context_keys(one.question.context) for one in asked],
    )
