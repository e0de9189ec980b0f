"""Apply the rules of requests to their ranked lists, in a fixed order.

1. `hide` and filters, before candidates are ranked.
2. Variants of hidden items, and the candidates below `min_probability`, are left out.
3. `boosts`, `freshness` and `fatigue` move scores, and the lists are sorted again, with `diversity`.
4. `pins` fix positions.
5. `caps` limit groups, such as the variants of one article, while positions are filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from online_models.bandits.slate_sampling import SlateConstraints
from online_models.rankers.click_head import sigmoid
from online_models.retrievers.candidates import Candidates
from serving.exploration.fresh_items import MAX_COLD_START_ITEMS
from serving.exploration.slate_filling import FilledSlate
from serving.pipeline.candidates import find_excluded_keys
from serving.pipeline.ranking import RankedLists
from serving.pipeline.schemas import RequestContext
from serving.replica.replica import Replica
from serving.rules.caps import VARIANTS, find_groups, is_variant
from serving.rules.diversity import diversify
from serving.rules.language import SurfaceRules
from serving.rules.pins import PinnedItems
from serving.rules.scoring import boost_scores, find_factors, find_fatigue, find_freshness


@dataclass(frozen=True, slots=True)
class SlatePlan:
    """Effect of the rules of one request on its slate."""

    ranking: np.ndarray  # (n,) int64, entries in order
    constraints: SlateConstraints | None = None
    counts: dict[str, int] = field(default_factory=dict)  # items that each rule affected, by its name
    shortage: str | None = None  # reason that the slate has fewer items than the request allows

    def is_pinned(self, entries: np.ndarray) -> np.ndarray:
        """Return True for entries, (n,) bool, with a fixed position."""
        return np.isin(entries, self.constraints.pinned) if self.constraints else np.zeros(entries.size, np.bool_)

    def count_applied(self, filled_slate: FilledSlate) -> dict[str, int]:
        """Items that each rule affected, those that `caps` kept out included."""
        if "caps" not in self.counts:
            return self.counts
        rows = filled_slate.selection.rows
        is_shown = np.isin(self.ranking, rows)
        is_complete = self.constraints is not None and rows.size >= self.constraints.pinned.size
        end = np.flatnonzero(is_shown).max(initial=-1) if is_complete else is_shown.size
        return self.counts | {"caps": int(np.count_nonzero(~is_shown[:end]))}


def apply_rules(
    replica: Replica, contexts: Sequence[RequestContext], pins: Sequence[PinnedItems], ranking: RankedLists
) -> tuple[RankedLists, list[SlatePlan]]:
    """Lists of n requests after their rules, and the plans of their slates."""
    has_variants = bool(replica.columns.get(VARIANTS).arrays) and contexts[0].request.candidates is None
    if not has_variants and not any(context.rules for context in contexts):
        return ranking, [SlatePlan(ranking.get_top_entries(i)) for i in range(len(contexts))]
    scores, channels = ranking.scores.copy(), ranking.candidates.channels.copy()
    plans = []
    for i, context in enumerate(contexts):
        rules = context.rules or SurfaceRules()
        if has_variants:
            rules = msgspec.structs.replace(rules, caps={VARIANTS: 1} | (rules.caps or {}))
        elif context.rules is None:
            plans.append(SlatePlan(ranking.get_top_entries(i)))
            continue
        span = slice(int(ranking.candidates.start[i]), int(ranking.candidates.start[i + 1]))
        plans.append(_apply(replica, context, rules, pins[i], ranking, span, scores, channels))
    top_entries = np.full((len(plans), max(plan.ranking.size for plan in plans)), -1, np.int64)
    for i, plan in enumerate(plans):
        top_entries[i, : plan.ranking.size] = plan.ranking
    candidates = Candidates(ranking.candidates.start, ranking.candidates.row, channels)
    return replace(ranking, candidates=candidates, scores=scores, top_entries=top_entries), plans


def _apply(
    replica: Replica,
    context: RequestContext,
    rules: SurfaceRules,
    pins: PinnedItems,
    ranking: RankedLists,
    span: slice,
    scores: np.ndarray,
    channels: np.ndarray,
) -> SlatePlan:
    """Plan of one request.

    It writes the scores of its span, and takes the channels from candidates that are left out.
    """
    rows, log_odds, size = ranking.candidates.row[span], ranking.log_odds[span], context.request.size
    counts = {} if context.hidden is None else {"hide": int(context.hidden.size)}
    shortage, is_kept = None, np.ones(rows.size, np.bool_)
    if rules.caps and rules.caps.get(VARIANTS) == 1:
        is_kept = ~is_variant(replica, rows, find_excluded_keys(context)) | np.isin(rows, pins.rows)
        counts["variants"] = int(np.count_nonzero(~is_kept))
        channels[span][~is_kept] = 0
    if rules.min_probability is not None:
        probabilities = sigmoid(log_odds)
        is_probable = (probabilities >= rules.min_probability) | np.isin(rows, pins.rows)
        counts["min_probability"] = int(np.count_nonzero(is_kept & ~is_probable))
        is_kept &= is_probable
        shortage = _explain_shortage(rules.min_probability, probabilities, is_kept, size)
        channels[span][~is_kept] = 0
    factors = _find_all_factors(replica, context, rules, rows)
    if factors:
        counts |= {name: int(np.count_nonzero(values != 1)) for name, values in factors.items()}
        scores[span] = boost_scores(scores[span], log_odds, np.prod(list(factors.values()), axis=0))
    order = _sort(replica, rules, rows, scores[span], size + MAX_COLD_START_ITEMS)
    if rules.diversity:
        counts["diversity"] = int(np.count_nonzero(order != np.argsort(-scores[span], kind="stable")))
    order = order[is_kept[order]] + span.start
    if pins.rows.size:
        counts["pins"] = int(pins.rows.size)
    if rules.caps:
        counts["caps"] = 0
    return SlatePlan(order, _constrain(replica, rules, pins, rows, span.start, size), counts, shortage)


def _find_all_factors(
    replica: Replica, context: RequestContext, rules: SurfaceRules, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Factors on the probabilities of n items, (n,) float64, by rule."""
    items, factors = replica.model.items, {}
    if rules.boosts:
        factors["boosts"] = find_factors(replica, rules.boosts, rows)
    if rules.freshness:
        factors["freshness"] = find_freshness(items.catalog["created"][rows], rules.freshness, context.ts)
    if rules.fatigue:
        factors["fatigue"] = find_fatigue(items.keys[rows], context.profile.shown, rules.fatigue)
    return {name: np.where(rows >= 0, values, 1.0) for name, values in factors.items()}


def _sort(replica: Replica, rules: SurfaceRules, rows: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Order of n items by score, and by diversity if there is such a rule."""
    if not rules.diversity:
        return np.argsort(-scores, kind="stable")
    categories = np.where(rows[:, None] >= 0, replica.model.items.catalog["categories"][rows], np.uint64(0))
    return diversify(scores, categories, rules.diversity, count)


def _constrain(
    replica: Replica, rules: SurfaceRules, pins: PinnedItems, rows: np.ndarray, first: int, size: int
) -> SlateConstraints | None:
    if not rules.caps and not pins.rows.size:
        return None
    groups = find_groups(replica.columns, rules.caps or {}, rows)
    pinned = np.full(size, -1, np.int64)
    order = np.argsort(rows, kind="stable")
    pinned[pins.positions] = order[np.searchsorted(rows, pins.rows, sorter=order)] + first
    return SlateConstraints(pinned, first, groups.of_items, groups.room)


def _explain_shortage(min_probability: float, probabilities: np.ndarray, is_kept: np.ndarray, size: int) -> str | None:
    n_kept = int(np.count_nonzero(is_kept))
    if n_kept >= size or n_kept == is_kept.size:
        return None
    best = float(probabilities.max(initial=0))
    return f"{n_kept} of {is_kept.size} candidates reach min_probability {min_probability:g}; the best has {best:.4g}"
