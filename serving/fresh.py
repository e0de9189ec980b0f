"""Which items are explored, what is thought of them, and what it may cost to find out more."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.arms import Judged, Prior
from online_models.bandits.budgets import Budget, Ledger, expected_loss
from online_models.bandits.cold import WarmStart, narrowed, posterior
from online_models.bandits.epsilon import EpsilonGreedy
from online_models.bandits.normal_thompson import NormalThompson
from online_models.bandits.policies import Bounds, Policy, Rule
from online_models.bandits.propensities import PropensityCheck
from online_models.bandits.squarecb import SquareCB
from online_models.bandits.thompson import Thompson
from online_models.bandits.ucb import UpperBounds
from online_models.retrievers.channels import Channel
from online_models.stack import Stack
from serving import metrics
from serving.explore import NOTHING_FRESH, Chosen, Fresh, least_shown
from serving.replica import Replica
from stream.batches import EventType
from stream.config import Serve

_TELL_EVERY = 16  # slates
AT_ONCE = 32  # fresh items that are weighed against each other
FRESH = np.uint16(1 << Channel.fresh)  # the bit of those that were found as such
_RULES: dict[str, Rule] = {
    "thompson": Thompson(),
    "ucb": UpperBounds(),
    "squarecb": SquareCB(),
    "epsilon": EpsilonGreedy(),
    "linucb": UpperBounds(),
    "linear-thompson": NormalThompson(),
}
_LINEAR = ("linucb", "linear-thompson")  # they ask the learner's linear model what the ranker gets wrong


@dataclass(frozen=True, slots=True)
class Pool:
    """The fresh items of one state, with what is counted of them: what surely is better or worse than most is none."""

    version: str
    rows: np.ndarray  # (n,) int32
    clicks: np.ndarray  # (n,) float64
    shown: np.ndarray  # (n,) float64
    rate: float  # clicks per place, of all items

    def places_of(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the pool stand in it, (m,) int64."""
        order = np.argsort(self.rows)
        places: np.ndarray = order[np.searchsorted(self.rows, rows, sorter=order)]
        return places


class Exploration:
    """Weighs fresh items for each question, and keeps the account of what exploring costs.

    What nobody was shown yet is thought of as the ranker predicts it for this very person, as far as that can be
    trusted; every place shown then counts for more than the prediction. The linear policies put the prediction right
    by what became of the category in such contexts, and know how little they know of it. By setting, all that may
    stand on the slate is weighed so, and not the fresh items alone.
    """

    def __init__(self, settings: Serve) -> None:
        self._budget = Budget(settings.fresh_impressions, settings.explore, settings.explore_loss)
        self.policy = settings.policy
        self.over_slate = settings.explore_over == "slate"
        self._is_linear = settings.policy in _LINEAR
        self._policy = Policy(_RULES[settings.policy], Bounds(settings.explore_floor, settings.explore_cap))
        self._warm = WarmStart()
        self._ledger = Ledger(self._budget)
        self._check = PropensityCheck()
        self._slates = 0
        self._pool = Pool("", NOTHING_FRESH.rows, NOTHING_FRESH.chances, NOTHING_FRESH.chances, 0.0)

    @property
    def alarm(self) -> bool:
        """Items do not come as often as their propensities say."""
        return self._check.alarm

    def pool(self, replica: Replica) -> Pool:
        """The fresh items of this state; asked again of the same state, they are the same."""
        if self._pool.version != replica.version:
            ever = replica.stack.items.counters["ever"][: len(replica.stack.items)]
            rows = least_shown(ever[:, EventType.impression], replica.eligible, self._budget.impressions, AT_ONCE)
            shown = ever[rows, EventType.impression].astype(float)
            clicks = np.minimum(ever[rows, EventType.click], shown)
            rate = min(0.9, float((replica.ever[EventType.click] + 1) / (replica.ever[EventType.impression] + 20)))
            judged = posterior(Prior(np.full(rows.size, rate), np.full(rows.size, rate)), clicks, shown)
            still = self._budget.is_fresh(shown, judged, rate)
            self.follow(replica.version, rows[still], clicks[still], shown[still], rate)
            metrics.fresh_items.set(int(still.sum()))
        return self._pool

    def follow(self, version: str, rows: np.ndarray, clicks: np.ndarray, shown: np.ndarray, rate: float) -> None:
        """Weigh these fresh items from now on."""
        self._pool = Pool(version, rows, clicks, shown, rate)

    def told(
        self, stack: Stack, rows: np.ndarray, features: np.ndarray, entries: np.ndarray, predicted: np.ndarray
    ) -> Judged:
        """What is told of items, by their features at `entries`, before their own counts speak.

        That is the probability which the ranker predicts, of which nobody says how unsure it is, (n,) float64; the
        linear policies have it put right by what is known of the category in this context.
        """
        if self._is_linear:
            return stack.bandit.judge(rows, features[entries], predicted, self._pool.rate)
        return Judged(predicted, np.zeros(predicted.size))

    def weigh(
        self,
        entries: np.ndarray,
        rows: np.ndarray,
        start: np.ndarray,
        told: Judged,
        earned: np.ndarray,
        places: int,
    ) -> list[Fresh]:
        """Chances of fresh items, for n questions at once: those of question i are [start[i], start[i + 1]).

        Of each its entry in the lists, its item row, which `pool` has named, and what is `told` of it. `earned`, (n,):
        what a place is expected to earn that is not explored; `places`: of each slate.
        """
        return self._weigh(entries, self._judge_fresh(rows, told), start, earned, places)

    def weigh_slate(
        self,
        entries: np.ndarray,
        rows: np.ndarray,
        start: np.ndarray,
        told: Judged,
        shown: np.ndarray,
        earned: np.ndarray,
        places: int,
    ) -> list[Fresh]:
        """The same for any candidates; `shown`: places that each was shown in.

        What is fresh is judged by what became of it, all else by what is told of it for this person.
        """
        prior = self._warm.prior_of_ranker(self._pool.rate, told)
        judged = narrowed(told.means, prior.spreads, shown)
        fresh = np.isin(rows, self._pool.rows)
        of_fresh = Judged(told.means[fresh], told.spreads[fresh])
        judged.means[fresh], judged.spreads[fresh] = self._judge_fresh(rows[fresh], of_fresh)
        return self._weigh(entries, judged, start, earned, places)

    def _judge_fresh(self, rows: np.ndarray, told: Judged) -> Judged:
        pool = self._pool
        at = pool.places_of(rows)
        return posterior(self._warm.prior_of_ranker(pool.rate, told), pool.clicks[at], pool.shown[at])

    def _weigh(
        self, entries: np.ndarray, judged: Judged, start: np.ndarray, earned: np.ndarray, places: int
    ) -> list[Fresh]:
        together = places * earned.size  # the slates share what may be lost
        spans = zip(start[:-1].tolist(), start[1:].tolist(), earned.tolist(), strict=True)
        return [
            self._weighed(entries[a:b], Judged(judged.means[a:b], judged.spreads[a:b]), best, together)
            for a, b, best in spans
        ]

    def _weighed(self, entries: np.ndarray, judged: Judged, best: float, places: int) -> Fresh:
        if entries.size == 0:
            return NOTHING_FRESH
        chances = self._policy.chances(judged)
        loss = expected_loss(best, judged.means, chances)
        return Fresh(entries, chances, self._ledger.share(places, loss), loss)

    def spend(self, fresh: Fresh, chosen: Chosen) -> None:
        """Take note of a slate that was shown."""
        places = chosen.told.shape[0]
        self._ledger.spend(places, fresh.share, fresh.loss)
        self._check.see_all(chosen.told, chosen.arms)
        self._slates += 1
        if self._slates % _TELL_EVERY == 0:
            metrics.explore_loss.set(1000 * self._ledger.lost / max(1, self._ledger.places))
            metrics.propensity_evidence.set(self._check.evidence)
