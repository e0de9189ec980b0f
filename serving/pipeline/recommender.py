"""The pipeline: users → candidates → features → ranker → exploration → slate, top to bottom."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import attrgetter

import msgspec
import numpy as np

from online_models.rankers.click_head import sigmoid
from serving import metrics
from serving.exploration.explorer import COLD_START_BIT, Explorer
from serving.exploration.fresh_items import MAX_COLD_START_ITEMS
from serving.exploration.slate_filling import NO_ARMS, ExplorationArms, fill
from serving.filters.language import Filters
from serving.ingest.pending_writes import PendingWrites
from serving.pipeline.baskets import add_basket
from serving.pipeline.candidates import add_rows, find_exclusions, requested_candidates, retrieve_candidates
from serving.pipeline.ranking import RankedLists, rank
from serving.pipeline.responses import Slate, build_slates, record_metrics
from serving.pipeline.schemas import RecommendationRequest, RequestContext
from serving.replica.replica import Replica
from serving.rules.hidden_items import find_hidden
from serving.rules.language import SurfaceRules
from serving.rules.pins import PinnedItems, find_pins, find_requested_pins
from serving.rules.rule_book import RuleBook
from serving.rules.stage import apply_rules
from stream.ids import NO_KEY, hash_id, hash_ids
from stream.records.batches import EventType, Queries
from stream.records.decoding import context_keys
from stream.stores import UserStore
from stream.users.profiles import EMPTY_PROFILE, Profile, decode_profile, queries_from_profiles, refuses_consent

_USER_STAGE, _RANK_STAGE, _EXPLORE_STAGE = map(metrics.stage_duration_seconds.labels, ("user", "rank", "explore"))
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecommenderSettings:
    """Sizes and weights of the pipeline."""

    max_candidates: int = 200  # ranked per request
    prior_impressions: float = 5000.0  # for full weight of feedback, besides two impressions per action
    warning_interval_ms: int = 5_000  # between warnings about the user store


class Recommender:
    """Serve requests from a replica and one read of the user store."""

    def __init__(
        self,
        replica: Replica,
        store: UserStore,
        pending_writes: PendingWrites,
        settings: RecommenderSettings,
        explorer: Explorer,
        rng: np.random.Generator,
        rules: RuleBook | None = None,
    ) -> None:
        self._replica = replica
        self._rules = rules or RuleBook({})
        self._store = store
        self._pending_writes = pending_writes
        self._settings = settings
        self._explorer = explorer
        self._rng = rng
        self._next_warning_ms = 0

    def recommend(self, request: RecommendationRequest, impression_id: str, now: int) -> Slate:
        """Return the slate of a request that arrives at `now`, ms."""
        return self.recommend_batch([(request, impression_id)], now)[0]

    def recommend_batch(self, requests: Sequence[tuple[RecommendationRequest, str]], now: int) -> list[Slate]:
        """Return the slates of (request, impression id) pairs, each as if it were served alone."""
        self._replica.advance(now)
        with _USER_STAGE.time():
            contexts = self._load_users(requests, now)
        slates: dict[str, Slate] = {}
        for _, group in groupby(sorted(contexts, key=attrgetter("batch_key")), key=attrgetter("batch_key")):
            slates |= {slate.response.impression_id: slate for slate in self._recommend_group(list(group))}
        ordered_slates = [slates[impression_id] for _, impression_id in requests]
        record_metrics(self._replica.model, ordered_slates)
        return ordered_slates

    def _recommend_group(self, contexts: list[RequestContext]) -> list[Slate]:
        """Slates of requests with equal batch keys."""
        item_ids = None
        with _RANK_STAGE.time():
            if contexts[0].request.candidates is None:
                ranking, pins = self._rank(contexts)
            else:
                ranking, pins, item_ids = self._rank_requested(contexts)
            ranking, plans = apply_rules(self._replica, contexts, pins, ranking)
            metrics.candidates_ranked.inc(ranking.candidates.row.size)
        with _EXPLORE_STAGE.time():
            exploration_arms = self._exploration_probabilities(contexts, ranking)
            size = contexts[0].request.size
            filled_slates = [
                fill(plan.ranking, arms, size, self._rng, plan.constraints)
                for plan, arms in zip(plans, exploration_arms, strict=True)
            ]
        policy = self._explorer.policy
        return build_slates(self._replica, contexts, ranking, exploration_arms, filled_slates, plans, policy, item_ids)

    def find_similar(
        self,
        key: int,
        k: int,
        filters: Filters | None = None,
        exclude: Sequence[str] = (),
        user: str = "",
        now: int = 0,
    ) -> list[tuple[str, float]]:
        """Neighbors of an item with their similarity, 0 to 1, best first.

        Items of its categories fill a short list. Items of `user`, if not empty, are left out.
        """
        replica, model = self._replica, self._replica.model
        row = int(model.items.lookup(np.array([key], np.uint64))[0])
        if row < 0:
            return []
        eligible = replica.mask_candidates(filters, exclude) if filters or exclude else replica.eligible
        if (own_rows := self.find_own_rows(user, now)).size:
            eligible = eligible.copy()
            eligible[own_rows] = 0
        found = model.find_similar(row, 2 * k).row
        rows = found[(eligible[found] == 1) & (found != row)]
        if rows.size < k:
            new_rows = replica.leaderboards.find_new_neighbors(row, eligible, k + rows.size)
            rows = np.concatenate([rows, new_rows[~np.isin(new_rows, rows)]])
        similarity = model.measure_similarity(row, rows, replica.leaderboards.measure_similarity(row, rows))
        best = np.argsort(-similarity, kind="stable")[:k]
        return list(zip(replica.get_item_ids(rows[best]), np.round(similarity[best], 6).tolist(), strict=True))

    def find_own_rows(self, user: str, now: int) -> np.ndarray:
        """Rows of the items that a user has acted on at `now`, ms; none of nobody, an empty id."""
        if not user:
            return np.zeros(0, np.int32)
        (context,) = self._load_users([(RecommendationRequest(user_id=user), "")], now)
        rows = self._replica.model.items.lookup(context.profile.interacted)
        return np.compress(rows >= 0, rows)

    def record_impression(self, slate: Slate) -> None:
        """Count a slate as shown against the exploration budget."""
        self._explorer.record_slate(slate.exploration_arms, slate.filled_slate)

    def _load_users(self, requests: Sequence[tuple[RecommendationRequest, str]], now: int) -> list[RequestContext]:
        """Read the users' profiles; stale if the store is unavailable or behind their events."""
        user_keys = hash_ids([request.user for request, _ in requests])
        try:
            values = self._read_store(user_keys)
            profiles = [self._decode_user(key, value, now) for key, value in zip(user_keys, values, strict=True)]
        except OSError as error:
            profiles = [self._fallback_profile(error, now) for _ in requests]
        return [
            self._build_context(request, impression_id, key, profile, is_stale, now)
            for (request, impression_id), key, (profile, is_stale) in zip(
                requests, user_keys.tolist(), profiles, strict=True
            )
        ]

    def _read_store(self, user_keys: np.ndarray) -> list[bytes | None]:
        """Records of users; None for nobody."""
        known = np.flatnonzero(user_keys != NO_KEY)
        if known.size == user_keys.size:
            return list(self._store.get_many(user_keys))
        values: list[bytes | None] = [None] * user_keys.size
        for i, value in zip(known.tolist(), self._store.get_many(user_keys[known]) if known.size else [], strict=True):
            values[i] = value
        return values

    def _build_context(
        self, request: RecommendationRequest, impression_id: str, key: int, profile: Profile, is_stale: bool, now: int
    ) -> RequestContext:
        """Context of a request; a user who does not consent is nobody."""
        ts, rules = request.event_ts(now), self._combine_rules(request)
        if not request.consent or refuses_consent(profile.attributes):
            profile = add_basket(EMPTY_PROFILE, hash_ids(request.items), ts)
            hidden = _find_hidden(EMPTY_PROFILE, rules, ts, [])
            return RequestContext(request, impression_id, NO_KEY, profile, False, ts, True, rules, hidden)
        pending = self._pending_writes.items(key, profile.offset, self._replica.covered_offsets, now)
        hidden = _find_hidden(profile, rules, ts, pending)
        if pending:  # the user has acted on these items too, in acknowledged events that the profile lacks
            interacted = np.concatenate([profile.interacted, np.array(pending, np.uint64)])
            profile = replace(profile, interacted=interacted)
        if request.items:
            profile = add_basket(profile, hash_ids(request.items), ts)
        return RequestContext(request, impression_id, key, profile, is_stale, ts, False, rules, hidden)

    def _combine_rules(self, request: RecommendationRequest) -> SurfaceRules | None:
        """Rules of the surface and of the request; None if there are none."""
        return self._rules.combine(
            request.surface, request.rules, request.hide, request.min_probability, request.repeats
        )

    def _decode_user(self, user_key: int, value: bytes | None, now: int) -> tuple[Profile, bool]:
        """Profile and staleness."""
        try:
            profile = EMPTY_PROFILE if value is None else decode_profile(value)
        except (ValueError, msgspec.DecodeError) as error:  # a record of another schema
            return self._fallback_profile(error, now)
        is_behind = self._pending_writes.is_behind(int(user_key), profile.offset, self._replica.covered_offsets, now)
        if is_behind:
            metrics.fallbacks.labels("record").inc()
        return profile, is_behind

    def _fallback_profile(self, error: Exception, now: int) -> tuple[Profile, bool]:
        """Stale empty profile: the slate comes from the context alone."""
        if now >= self._next_warning_ms:  # every request fails while the store is unavailable
            self._next_warning_ms = now + self._settings.warning_interval_ms
            _logger.warning("cannot read the user store; serving from context alone: %s", error)
        metrics.fallbacks.labels("store").inc()
        return EMPTY_PROFILE, True

    def _rank(self, contexts: Sequence[RequestContext]) -> tuple[RankedLists, list[PinnedItems]]:
        """Retrieve candidates from all channels and rank them; returns the pinned items too."""
        replica, model = self._replica, self._replica.model
        requests = [context.request for context in contexts]
        size, is_exploring = requests[0].size, requests[0].explore
        user_queries = model.resolve_queries(_build_queries(contexts))
        exclusions = find_exclusions(model, contexts)
        pins = [
            find_pins(replica, context, exclusions.row[start:end])
            for context, (start, end) in zip(contexts, pairwise(exclusions.start.tolist()), strict=True)
        ]
        cold_start_rows = self._explorer.refresh_pool(replica).rows if is_exploring else NO_ARMS.rows
        per_channel = max(size, self._settings.max_candidates // 4)
        max_candidates = max(size, self._settings.max_candidates)
        candidates = retrieve_candidates(
            replica, contexts, user_queries, exclusions, cold_start_rows, per_channel, max_candidates
        )
        candidates = add_rows(candidates, [pinned.rows for pinned in pins])
        ranking = rank(model, user_queries, candidates, self._feedback_weight(), size + MAX_COLD_START_ITEMS)
        return ranking, pins

    def _rank_requested(self, contexts: Sequence[RequestContext]) -> tuple[RankedLists, list[PinnedItems], list[str]]:
        """Rank exactly the requested candidates; also returns the pinned ones, and the ids of all."""
        model = self._replica.model
        requests = [context.request for context in contexts]
        candidates, item_ids = requested_candidates(self._replica, contexts)
        pins = [find_requested_pins(self._replica, context) for context in contexts]
        user_queries = model.resolve_queries(_build_queries(contexts))
        return rank(model, user_queries, candidates, self._feedback_weight(), requests[0].size), pins, item_ids

    def _exploration_probabilities(
        self, contexts: Sequence[RequestContext], ranking: RankedLists
    ) -> list[ExplorationArms]:
        """Items that each request may draw, as entries of its list, with their probabilities."""
        model, size = self._replica.model, contexts[0].request.size
        is_slate_scope = self._explorer.is_slate_scope and _can_explore(contexts[0].request)
        entries = ranking.select_explorable(COLD_START_BIT, size + MAX_COLD_START_ITEMS if is_slate_scope else 0)
        if entries.size == 0:
            return [NO_ARMS] * len(contexts)
        rows, start = ranking.candidates.row[entries], np.searchsorted(entries, ranking.candidates.start)
        probabilities = sigmoid(ranking.log_odds).astype(float)
        baseline_values = _mean_top_probability(ranking.top_entries[:, :size], probabilities)
        estimates = self._explorer.ranker_estimate(model, rows, ranking.features, entries, probabilities[entries])
        if not is_slate_scope:
            return self._explorer.build_cold_start_arms(entries, rows, start, estimates, baseline_values, size)
        impressions = model.items.counters["total_counts"][rows, EventType.impression].astype(float)
        return self._explorer.build_slate_arms(entries, rows, start, estimates, impressions, baseline_values, size)

    def _feedback_weight(self) -> float:
        """Weight of feedback on slates against organic actions, 0 to 1.

        It is impressions / (prior + 2 × actions), at most 1. What users choose from the whole catalog cannot be learned
        from our own slates: it would be confused with what the model showed.
        """
        totals = self._replica.event_totals
        impressions, actions = totals[EventType.impression], totals[EventType.impression + 1 :].sum()
        return min(1.0, float(impressions) / (self._settings.prior_impressions + 2.0 * float(actions)))


def _find_hidden(profile: Profile, rules: SurfaceRules | None, ts: int, pending: Sequence[int]) -> np.ndarray | None:
    if rules is None or rules.hide is None:
        return None
    return find_hidden(profile, rules.hide, ts, np.array(pending, np.uint64))


def _can_explore(request: RecommendationRequest) -> bool:
    """Return True if positions may be filled by chance; requested candidates are only ranked."""
    return request.explore and request.candidates is None


def _mean_top_probability(top_entries: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Mean click probability of the best items of each list, (n,) float64.

    It is the expected value of a position that is not explored.
    """
    is_filled = top_entries >= 0
    totals = np.where(is_filled, probabilities[top_entries], 0).sum(axis=1)
    means: np.ndarray = totals / np.maximum(is_filled.sum(axis=1), 1)
    return means


def _build_queries(contexts: Sequence[RequestContext]) -> Queries:
    return queries_from_profiles(
        [context.profile for context in contexts],
        [context.user_key for context in contexts],
        [context.ts for context in contexts],
        [hash_id(context.request.surface) if context.request.surface else 0 for context in contexts],
        [context_keys(context.request.context) for context in contexts],
    )
