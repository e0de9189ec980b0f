"""Choose the items that a slate may explore, their probabilities, and their share of it."""

import numpy as np

from online_models.bandits.exploration_budget import Budget, RegretLedger, expected_regret
from online_models.bandits.policies.beta_thompson import BetaThompson
from online_models.bandits.policies.epsilon_greedy import EpsilonGreedy
from online_models.bandits.policies.gaussian_thompson import GaussianThompson
from online_models.bandits.policies.policy import ChoiceRule, Policy, ProbabilityBounds
from online_models.bandits.policies.squarecb import SquareCB
from online_models.bandits.policies.ucb import UCB
from online_models.bandits.propensity_audit import PropensityAudit
from online_models.bandits.protocols import Posterior
from online_models.bandits.warm_start import WarmStart, update_prior, with_impressions
from online_models.model import RecommenderModel
from online_models.retrievers.candidates import Channel
from serving import metrics
from serving.exploration.fresh_items import EMPTY_POOL, FreshItemPool, build_pool
from serving.exploration.slate_filling import NO_ARMS, ExplorationArms, FilledSlate
from serving.replica.replica import Replica
from stream.config import ServeSettings

_SLATES_PER_REPORT = 16  # slates between two updates of the gauges
COLD_START_BIT = np.uint16(1 << Channel.fresh)  # channel bit of fresh items
_RULES: dict[str, ChoiceRule] = {
    "thompson": BetaThompson(),
    "ucb": UCB(),
    "squarecb": SquareCB(),
    "epsilon": EpsilonGreedy(),
    "linucb": UCB(),
    "linear-thompson": GaussianThompson(),
}
_LINEAR_POLICIES = ("linucb", "linear-thompson")  # correct the ranker by the learner's linear bandit


class Explorer:
    """Computes exploration probabilities per request, and accounts for the expected regret.

    The prior of an item without impressions combines the ranker's prediction for this user with the click rates of
    similar items, each as far as it can be trusted. Every impression then outweighs both a little more. The linear
    policies use similar items differently: the learner's bandit corrects the prediction by category and context, with
    a known uncertainty. If the scope is "slate", all candidates are explored so, not only the fresh items.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._budget = Budget(settings.cold_start_impressions, settings.exploration_rate, settings.exploration_budget)
        self.policy = settings.policy
        self.is_slate_scope = settings.exploration_scope == "slate"
        self._is_linear = settings.policy in _LINEAR_POLICIES
        bounds = ProbabilityBounds(settings.exploration_min_probability, settings.exploration_max_probability)
        self._policy = Policy(_RULES[settings.policy], bounds)
        self._warm_start = WarmStart()
        self._ledger = RegretLedger(self._budget)
        self._audit = PropensityAudit()
        self._slate_count = 0
        self._pool = EMPTY_POOL

    @property
    def has_alarm(self) -> bool:
        """Return True if items were not drawn as often as their propensities claim."""
        return self._audit.alarm

    def refresh_pool(self, replica: Replica) -> FreshItemPool:
        """Pool of fresh items of the replica's state; rebuilt when model or catalog change."""
        if self._pool.revision != replica.revision:
            self.set_pool(build_pool(replica, self._budget, self._warm_start))
            metrics.exploration_candidates.set(self._pool.rows.size)
        return self._pool

    def set_pool(self, pool: FreshItemPool) -> None:
        """Explore these fresh items from now on."""
        self._pool = pool

    def ranker_estimate(
        self,
        model: RecommenderModel,
        rows: np.ndarray,
        features: np.ndarray,
        entries: np.ndarray,
        predictions: np.ndarray,
    ) -> Posterior:
        """Estimate click probabilities of n items, without their counts, by features at `entries`.

        The ranker's `predictions`, (n,) float64, come without uncertainty. The linear policies return them corrected
        for the category in this context, with the uncertainty of the correction.
        """
        if self._is_linear:
            return model.bandit.posterior(rows, features[entries], predictions, self._pool.rate)
        return Posterior(predictions, np.zeros(predictions.size))

    def build_cold_start_arms(
        self,
        entries: np.ndarray,
        rows: np.ndarray,
        start: np.ndarray,
        estimates: Posterior,
        baseline_values: np.ndarray,
        slate_size: int,
    ) -> list[ExplorationArms]:
        """Exploration arms of n requests from fresh items.

        Request i owns the items [start[i], start[i + 1]).

        Per item: its entry in the ranked lists, its item row, which must be in the pool, and the ranker's estimate.
        `baseline_values`: (n,) expected clicks of a position that does not explore. `slate_size`: positions per slate.
        """
        posteriors = self._cold_start_posteriors(rows, estimates)
        return self._build_arms(entries, estimates, posteriors, start, baseline_values, slate_size)

    def build_slate_arms(
        self,
        entries: np.ndarray,
        rows: np.ndarray,
        start: np.ndarray,
        estimates: Posterior,
        impressions: np.ndarray,
        baseline_values: np.ndarray,
        slate_size: int,
    ) -> list[ExplorationArms]:
        """Exploration arms from any candidates, with the `impressions` of each.

        Posteriors of fresh items include their own counts. Those of other items are the ranker's estimate for this
        user, narrower with every impression.
        """
        rate, warm_start = self._pool.rate, self._warm_start
        prior = warm_start.prior(rate, warm_start.uninformed(rate, rows.size), estimates)
        posteriors = with_impressions(estimates.means, prior.stds, impressions)
        is_cold_start = np.isin(rows, self._pool.rows)
        cold_start_estimates = Posterior(estimates.means[is_cold_start], estimates.stds[is_cold_start])
        posteriors.means[is_cold_start], posteriors.stds[is_cold_start] = self._cold_start_posteriors(
            rows[is_cold_start], cold_start_estimates
        )
        return self._build_arms(entries, estimates, posteriors, start, baseline_values, slate_size)

    def _cold_start_posteriors(self, rows: np.ndarray, estimates: Posterior) -> Posterior:
        """Posteriors of fresh items from neighbors, ranker and own counts."""
        pool, warm_start = self._pool, self._warm_start
        indices = pool.find_indices(rows)
        if self._is_linear:
            # The linear bandit has learned from the category already: the same evidence must not count twice.
            neighbor_prior = warm_start.uninformed(pool.rate, indices.size)
        else:
            neighbor_prior = pool.select_neighbor_prior(indices)
        prior = warm_start.prior(pool.rate, neighbor_prior, estimates)
        return update_prior(prior, pool.clicks[indices], pool.impressions[indices])

    def _build_arms(
        self,
        entries: np.ndarray,
        estimates: Posterior,
        posteriors: Posterior,
        start: np.ndarray,
        baseline_values: np.ndarray,
        slate_size: int,
    ) -> list[ExplorationArms]:
        total_positions = slate_size * baseline_values.size  # the slates share the regret budget
        spans = zip(start[:-1].tolist(), start[1:].tolist(), baseline_values.tolist(), strict=True)
        return [
            self._build_request_arms(
                entries[a:b],
                estimates.means[a:b],
                Posterior(posteriors.means[a:b], posteriors.stds[a:b]),
                baseline_value,
                total_positions,
            )
            for a, b, baseline_value in spans
        ]

    def _build_request_arms(
        self,
        entries: np.ndarray,
        ranker_probabilities: np.ndarray,
        posteriors: Posterior,
        baseline_value: float,
        total_positions: int,
    ) -> ExplorationArms:
        if entries.size == 0:
            return NO_ARMS
        probabilities = self._policy.probabilities(posteriors)
        regret = expected_regret(baseline_value, posteriors.means, probabilities)
        share = self._ledger.allowed_share(total_positions, regret)
        return ExplorationArms(entries, probabilities, share, regret, ranker_probabilities, posteriors)

    def record_slate(self, exploration_arms: ExplorationArms, filled_slate: FilledSlate) -> None:
        """Charge a slate that was shown to the regret budget, and audit its propensities."""
        slate_size = filled_slate.probabilities.shape[0]
        self._ledger.spend(slate_size, exploration_arms.exploration_rate, exploration_arms.expected_regret)
        self._audit.update_many(filled_slate.probabilities, filled_slate.arm_indices)
        self._slate_count += 1
        if self._slate_count % _SLATES_PER_REPORT == 0:
            metrics.exploration_expected_regret.set(1000 * self._ledger.total_regret / max(1, self._ledger.positions))
            metrics.propensity_log_evidence.set(self._audit.evidence)
