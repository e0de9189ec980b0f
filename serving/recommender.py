"""The pipeline: user state → candidates → features → ranker → exploration → slate, readable top to bottom."""

import logging
from collections import Counter
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from online_models.retrievers.channels import Channel
from online_models.stack import Stack
from serving import metrics
from serving.acknowledged import Acknowledged
from serving.explore import NOTHING_FRESH, Chosen, Fresh, absent, fill, least_shown, places_among
from serving.fresh import Exploration, Pool
from serving.questions import Answer, Filters, Question, Recommended
from serving.replica import Replica
from stream.batches import EventType, Lists, Questions
from stream.ids import key_of, keys_of
from stream.intake import context_keys
from stream.profiles import NOBODY, Profile, decode_profile, question_of
from stream.stores import UserStore

_FIRST_SHOWN = 5000.0  # places that have to be shown before what became of them is all that counts
_FIRST_CHANNEL = {1 << channel: channel.name for channel in Channel}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Slate:
    """An answer on its way out, with what the impression event tells of it."""

    answer: Answer
    features: np.ndarray  # (k, f) float32, as served
    fresh: Fresh
    chosen: Chosen


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates with their scores, best first."""

    rows: np.ndarray  # (n,) int32, item rows, -1 for items never heard of
    order: np.ndarray  # (n,) int64, place of each before ranking
    scores: np.ndarray  # (n,) float32
    features: np.ndarray  # (n, f) float32
    channels: np.ndarray  # (n,) uint16, bits of the channels that found it
    names: list[str] | None = None  # ids of given candidates; None: look them up by row
    fresh: Fresh = NOTHING_FRESH  # which of them are fresh, by place

    def __len__(self) -> int:
        return int(self.rows.size)


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

    def answer(self, question: Question, impression_id: str, now: int) -> Slate:
        """The slate for a question asked at `now`, ms."""
        user = key_of(question.user_id)
        with metrics.stage_seconds.labels("user").time():
            profile, stale = self._read(user, now)
        asked = question_of(profile, user, now if question.ts is None else question.ts, *_where(question))
        with metrics.stage_seconds.labels("rank").time():
            given = question.candidates is not None
            ranked = self._rank_given(question, asked) if given else self._rank(question, asked, profile)
        with metrics.stage_seconds.labels("explore").time():
            chosen = fill(np.arange(len(ranked)), ranked.fresh, question.size, self._rng)
        return self._slate(question, impression_id, stale, ranked, chosen)

    def similar(self, key: int, k: int) -> list[tuple[str, float]]:
        """Neighbours of an item, best first, with their scores."""
        stack = self._replica.stack
        row = stack.items.find(np.array([key], np.uint64))[0]
        if row < 0:
            return []
        found = stack.similar(int(row), 2 * k)
        rows = found.row[(self._replica.eligible[found.row] == 1) & (found.row != row)][:k]
        return [(name, round(1 / (1 + place), 6)) for place, name in enumerate(self._replica.names_of(rows))]

    def _read(self, user: int, now: int) -> tuple[Profile, bool]:
        """What is known of the person, and whether it is stale: the store is away, or has not kept up with them."""
        try:
            value = self._store.get(user)
            profile = NOBODY if value is None else decode_profile(value)
            behind = self._acknowledged.is_behind(user, profile.offset, self._replica.covered, now)
            if behind:
                metrics.fallbacks.labels("record").inc()
            return profile, behind
        except (OSError, ValueError, msgspec.DecodeError) as error:  # away, or a record that this code cannot read
            _logger.warning("user store away, answering from context alone: %s", error)
            metrics.fallbacks.labels("store").inc()
            return NOBODY, True

    def _rank(self, question: Question, asked: Questions, profile: Profile) -> Ranked:
        """Candidates of all channels that may be shown, best first."""
        stack, eligible = self._replica.stack, self._replica.eligible
        # Before anything is hidden: what is fresh is remembered, and must not hang on who asked first.
        pool = self._exploration.pool(self._replica)
        met = profile.met[:0] if question.repeats else profile.met
        hidden = stack.items.find(np.concatenate([met, keys_of(question.exclude)]))
        hidden = hidden[hidden >= 0]
        before = eligible[hidden]
        eligible[hidden] = 0
        try:
            per_channel = max(question.size, self._candidates // 4)
            found = stack.candidates(asked, 0, eligible, per_channel)
            fits = self._fits(question.filters, found.row)[: max(question.size, self._candidates)]
            others = self._others(question, found.row[fits])
            open_to = np.flatnonzero(eligible[pool.rows]) if question.explore else np.zeros(0, np.int64)
        finally:
            eligible[hidden] = before
        open_to = open_to[self._fits(question.filters, pool.rows[open_to])]
        fresh = pool.rows[open_to]
        others = np.concatenate([fresh[absent(fresh, found.row[fits])], others[absent(others, fresh)]])
        rows = np.concatenate([found.row[fits], others])
        channels = np.concatenate([found.channels[fits], np.zeros(others.size, np.uint16)])
        ranked = best_first(stack, asked, rows, stack.items.keys[rows], channels, self._trust())
        if open_to.size == 0:
            return ranked
        at = places_among(fresh, ranked.rows)
        best = np.arange(min(question.size, len(ranked)))
        predicted = stack.probability(ranked.features[np.concatenate([at, best])]).astype(float)
        earned = float(predicted[at.size :].mean())
        weighed = self._exploration.weigh(pool, open_to, predicted[: at.size], earned, question.size)
        return replace(ranked, fresh=weighed.among(ranked.rows))

    def _others(self, question: Question, found: np.ndarray) -> np.ndarray:
        """Where the channels found too little for a slate: whatever else may be shown, (n,) int32 item rows."""
        if found.size >= question.size:
            return found[:0]
        rows = np.flatnonzero(self._replica.eligible[: len(self._replica.stack.items)]).astype(np.int32)
        rows = rows[self._fits(question.filters, rows)]
        others: np.ndarray = np.setdiff1d(rows, found)[: max(question.size, self._candidates)]
        return others

    def _rank_given(self, question: Question, asked: Questions) -> Ranked:
        """Exactly the items asked for, best first, but for what the same question excludes or filters out."""
        stack = self._replica.stack
        excluded = set(question.exclude)
        names = [name for name in dict.fromkeys(question.candidates or ()) if name not in excluded]
        fits = self._fits(question.filters, stack.items.find(keys_of(names)))
        names = [names[i] for i in fits.tolist()]
        keys = keys_of(names)
        unfound = np.zeros(len(names), np.uint16)
        ranked = best_first(stack, asked, stack.items.find(keys), keys, unfound, self._trust())
        return replace(ranked, names=[names[i] for i in ranked.order.tolist()])

    def _fits(self, filters: Filters | None, rows: np.ndarray) -> np.ndarray:
        """Places of the rows that pass the filters; an item never heard of passes none."""
        if filters is None:
            return np.arange(rows.size)
        catalogue = self._replica.stack.items.catalogue
        fits = rows >= 0
        if filters.categories is not None:
            wanted = keys_of([name for name in filters.categories if name])
            fits &= np.isin(catalogue["categories"][rows], wanted).any(axis=1)
        price = catalogue["price"][rows]
        if filters.min_price is not None:
            fits &= price >= _as_stored(filters.min_price)
        if filters.max_price is not None:
            fits &= price <= _as_stored(filters.max_price)
        return np.flatnonzero(fits)

    def _trust(self) -> float:
        """The more was shown, the more it counts what became of it; all, after two places for each action ever.

        What people pick of everything cannot be learnt from our own slates: it would be mistaken for what we showed.
        """
        shown, acted = self._replica.ever[EventType.impression], self._replica.ever[EventType.impression + 1 :].sum()
        return min(1.0, float(shown) / (_FIRST_SHOWN + 2.0 * float(acted)))

    def _slate(self, question: Question, impression_id: str, stale: bool, ranked: Ranked, chosen: Chosen) -> Slate:
        placed = chosen.placed
        features = ranked.features[placed.rows]
        if ranked.names:
            names = [ranked.names[at] for at in placed.rows.tolist()]
        else:
            names = self._replica.names_of(ranked.rows[placed.rows])
        channels, explored = ranked.channels[placed.rows].tolist(), placed.explored.tolist()
        otherwise = "given" if question.candidates else "catalogue"
        sources = [
            self._exploration.policy if drawn else _FIRST_CHANNEL[bits & -bits] if bits else otherwise
            for bits, drawn in zip(channels, explored, strict=True)
        ]
        scores, propensities = ranked.scores[placed.rows].tolist(), placed.propensities.tolist()
        items = [
            Recommended(name, round(score, 6), source, propensity, drawn)
            for name, score, source, propensity, drawn in zip(
                names, scores, sources, propensities, explored, strict=True
            )
        ]
        if question.explain:
            items = self._explained(items, channels, features)
        for source, count in Counter(sources).items():
            metrics.places.labels(source).inc(count)
        metrics.places_explored.inc(sum(explored))
        metrics.slate_categories.inc(self._categories(ranked.rows[placed.rows]))
        answer = Answer(impression_id, self._replica.version, stale, items)
        return Slate(answer, features, ranked.fresh, chosen)

    def note_shown(self, slate: Slate) -> None:
        """Say that a slate was shown, and not only asked for."""
        self._exploration.spend(slate.fresh, slate.chosen)

    def _categories(self, rows: np.ndarray) -> int:
        """How many different first categories the items in rows have; having none is one."""
        return len(set(self._replica.stack.items.catalogue["categories"][rows[rows >= 0], 0].tolist()))

    def _explained(self, items: list[Recommended], channels: list[int], features: np.ndarray) -> list[Recommended]:
        """The same items, with who found them and what they were judged by."""
        probabilities = self._replica.stack.probability(features).tolist()
        return [
            msgspec.structs.replace(
                item,
                probability=round(probability, 6),
                channels=[channel.name for channel in Channel if bits >> channel & 1],
                features=self._told(row),
            )
            for item, bits, probability, row in zip(items, channels, probabilities, features, strict=True)
        ]

    def _told(self, features: np.ndarray) -> dict[str, float]:
        return dict(zip(self._replica.stack.feature_names, np.round(features.astype(float), 5).tolist(), strict=True))


def rehearse(exploration: Exploration) -> None:
    """Compile what an answer needs on a shop made up for it, so that the first one that is asked does not wait."""
    stack, keys = Stack(), np.arange(1, 13, dtype=np.uint64)
    categories = np.repeat(keys[:, None], 4, axis=1)
    stack.describe(keys, categories, np.zeros(12, np.int64), np.ones(12, np.float32))
    asked = question_of(NOBODY, 1, 1)
    found = stack.candidates(asked, 0, np.ones(12, np.uint8), 10)
    ranked = best_first(stack, asked, found.row, stack.items.keys[found.row], found.channels, trust=0.5)
    least_shown(np.zeros(12, np.int32), np.ones(12, np.uint8), 1, 1)
    pool = Pool("", np.zeros(2, np.int32), np.zeros(2), np.zeros(2), 0.1)
    fresh = exploration.weigh(pool, np.arange(2), stack.probability(ranked.features[:2]).astype(float), 0.1, 10)
    chosen = fill(np.arange(len(ranked)), fresh, 10, np.random.default_rng(0))
    absent(fresh.rows, chosen.placed.rows)
    exploration.spend(fresh, chosen)


def best_first(
    stack: Stack, asked: Questions, rows: np.ndarray, keys: np.ndarray, channels: np.ndarray, trust: float = 0.0
) -> Ranked:
    """Score candidates, (n,) item rows with their keys, and sort them; equal scores keep their order.

    `trust` is the weight, 0 to 1, of what people did with what they were shown, against what they picked of everything.
    """
    n = rows.size
    nan = np.full(n, np.nan, np.float32)
    lists = Lists(np.array([0, n]), keys, np.zeros(n, np.float32), np.full(n, -1, np.int16), nan, nan)
    features = stack.features(asked, lists)
    scores = np.zeros(n, np.float32)
    if trust < 1:
        scores += np.float32(1 - trust) * stack.score(features)
    if trust:
        scores += np.float32(trust) * stack.appeal(features)
    order = np.argsort(-scores, kind="stable")
    return Ranked(rows[order], order, scores[order], features[order], channels[order])


def _where(question: Question) -> tuple[int, list[int]]:
    """Keys of the surface and the context."""
    return (key_of(question.surface) if question.surface else 0), context_keys(question.context)


def _as_stored(price: float) -> np.float32:
    """A price as the catalogue's column holds it, so that a bound lets through the item of that very price."""
    return np.float32(max(-1e30, min(1e30, price)))
