"""Which items are explored, what is thought of them, and what it may cost to find out more."""

import numpy as np

from online_models.bandits.exploration_budget import Budget, Ledger, expected_loss
from online_models.bandits.policies.beta_thompson import Thompson
from online_models.bandits.policies.epsilon_greedy import EpsilonGreedy
from online_models.bandits.policies.gaussian_thompson import NormalThompson
from online_models.bandits.policies.policy import Bounds, Policy, Rule
from online_models.bandits.policies.squarecb import SquareCB
from online_models.bandits.policies.ucb import UpperBounds
from online_models.bandits.propensity_audit import PropensityCheck
from online_models.bandits.protocols import Judged
from online_models.bandits.warm_start import WarmStart, narrowed, posterior
from online_models.model import Stack
from online_models.retrievers.candidates import Channel
from serving import metrics
from serving.exploration.fresh_items import NO_POOL, Pool, pool_of
from serving.exploration.slate_filling import NOTHING_FRESH, Chosen, Fresh
from serving.replica.replica import Replica
from stream.config import Serve

_TELL_EVERY = 16  # slates
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


class Exploration:
    """Weighs fresh items for each question, and keeps the account of what exploring costs.

    What nobody was shown yet is thought of as the ranker predicts it for this very person, and as items like it fared
    with everybody, as far as either can be trusted; every place shown then counts for more than both. The linear
    policies learn from items like it in their own way: they put the prediction right by what became of the category in
    such contexts, and know how little they know of it. By setting, all that may stand on the slate is weighed so, and
    not the fresh items alone.
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
        self._pool = NO_POOL

    @property
    def alarm(self) -> bool:
        """Items do not come as often as their propensities say."""
        return self._check.alarm

    def pool(self, replica: Replica) -> Pool:
        """The fresh items of this state; asked again of the same state, they are the same."""
        if self._pool.version != replica.version:
            self.follow(pool_of(replica, self._budget, self._warm))
            metrics.fresh_items.set(self._pool.rows.size)
        return self._pool

    def follow(self, pool: Pool) -> None:
        """Weigh these fresh items from now on."""
        self._pool = pool

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
        return self._weigh(entries, told, self._judge_fresh(rows, told), start, earned, places)

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
        rate, warm = self._pool.rate, self._warm
        prior = warm.prior(rate, warm.strangers(rate, rows.size), told)
        judged = narrowed(told.means, prior.spreads, shown)
        fresh = np.isin(rows, self._pool.rows)
        of_fresh = Judged(told.means[fresh], told.spreads[fresh])
        judged.means[fresh], judged.spreads[fresh] = self._judge_fresh(rows[fresh], of_fresh)
        return self._weigh(entries, told, judged, start, earned, places)

    def _judge_fresh(self, rows: np.ndarray, told: Judged) -> Judged:
        pool, warm = self._pool, self._warm
        at = pool.places_of(rows)
        # The linear model has learnt from items of the category: told of them twice, one would be too sure.
        around = warm.strangers(pool.rate, at.size) if self._is_linear else pool.around_of(at)
        return posterior(warm.prior(pool.rate, around, told), pool.clicks[at], pool.shown[at])

    def _weigh(
        self, entries: np.ndarray, told: Judged, judged: Judged, start: np.ndarray, earned: np.ndarray, places: int
    ) -> list[Fresh]:
        together = places * earned.size  # the slates share what may be lost
        spans = zip(start[:-1].tolist(), start[1:].tolist(), earned.tolist(), strict=True)
        return [
            self._weighed(entries[a:b], told.means[a:b], Judged(judged.means[a:b], judged.spreads[a:b]), best, together)
            for a, b, best in spans
        ]

    def _weighed(self, entries: np.ndarray, told: np.ndarray, judged: Judged, best: float, places: int) -> Fresh:
        if entries.size == 0:
            return NOTHING_FRESH
        chances = self._policy.chances(judged)
        loss = expected_loss(best, judged.means, chances)
        return Fresh(entries, chances, self._ledger.share(places, loss), loss, told, judged)

    def spend(self, fresh: Fresh, chosen: Chosen) -> None:
        """Take note of a slate that was shown."""
        places = chosen.told.shape[0]
        self._ledger.spend(places, fresh.share, fresh.loss)
        self._check.see_all(chosen.told, chosen.arms)
        self._slates += 1
        if self._slates % _TELL_EVERY == 0:
            metrics.explore_loss.set(1000 * self._ledger.lost / max(1, self._ledger.places))
            metrics.propensity_evidence.set(self._check.evidence)
