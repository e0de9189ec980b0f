"""Which items are explored, what is thought of them, and what it may cost to find out more."""

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

_SLATES_PER_REPORT = 16  # slates
COLD_START_BIT = np.uint16(1 << Channel.fresh)  # the bit of those that were found as such
_RULES: dict[str, ChoiceRule] = {
    "thompson": BetaThompson(),
    "ucb": UCB(),
    "squarecb": SquareCB(),
    "epsilon": EpsilonGreedy(),
    "linucb": UCB(),
    "linear-thompson": GaussianThompson(),
}
_LINEAR_POLICIES = ("linucb", "linear-thompson")  # they ask the learner's linear model what the ranker gets wrong


class Explorer:
    """Weighs fresh items for each question, and keeps the account of what exploring costs.

    What nobody was shown yet is thought of as the ranker predicts it for this very person, and as items like it fared
    with everybody, as far as either can be trusted; every place shown then counts for more than both. The linear
    policies learn from items like it in their own way: they put the prediction right by what became of the category in
    such contexts, and know how little they know of it. By setting, all that may stand on the slate is weighed so, and
    not the fresh items alone.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._budget = Budget(settings.cold_start_impressions, settings.exploration_rate, settings.exploration_budget)
        self.policy = settings.policy
        self.is_slate_scope = settings.exploration_scope == "slate"
        self._is_linear = settings.policy in _LINEAR_POLICIES
        self._policy = Policy(
            _RULES[settings.policy],
            ProbabilityBounds(settings.exploration_min_probability, settings.exploration_max_probability),
        )
        self._warm_start = WarmStart()
        self._ledger = RegretLedger(self._budget)
        self._audit = PropensityAudit()
        self._slate_count = 0
        self._pool = EMPTY_POOL

    @property
    def has_alarm(self) -> bool:
        """Items do not come as often as their propensities say."""
        return self._audit.alarm

    def refresh_pool(self, replica: Replica) -> FreshItemPool:
        """The fresh items of this state; asked again of the same state, they are the same."""
        if self._pool.version != replica.version:
            self.set_pool(build_pool(replica, self._budget, self._warm_start))
            metrics.exploration_candidates.set(self._pool.rows.size)
        return self._pool

    def set_pool(self, pool: FreshItemPool) -> None:
        """Weigh these fresh items from now on."""
        self._pool = pool

    def ranker_estimate(
        self,
        model: RecommenderModel,
        rows: np.ndarray,
        features: np.ndarray,
        entries: np.ndarray,
        predictions: np.ndarray,
    ) -> Posterior:
        """What is told of items, by their features at `entries`, before their own counts speak.

        That is the probability which the ranker predicts, of which nobody says how unsure it is, (n,) float64; the
        linear policies have it put right by what is known of the category in this context.
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
        """Chances of fresh items, for n questions at once: those of question i are [start[i], start[i + 1]).

        Of each its entry in the lists, its item row, which `pool` has named, and what is `told` of it. `earned`, (n,):
        what a place is expected to earn that is not explored; `places`: of each slate.
        """
        return self._build_arms(
            entries, estimates, self._cold_start_posteriors(rows, estimates), start, baseline_values, slate_size
        )

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
        """The same for any candidates; `shown`: places that each was shown in.

        What is fresh is judged by what became of it, all else by what is told of it for this person.
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
        pool, warm_start = self._pool, self._warm_start
        indices = pool.find_indices(rows)
        # The linear model has learnt from items of the category: told of them twice, one would be too sure.
        neighbor_prior = (
            warm_start.uninformed(pool.rate, indices.size) if self._is_linear else pool.select_neighbor_prior(indices)
        )
        return update_prior(
            warm_start.prior(pool.rate, neighbor_prior, estimates), pool.clicks[indices], pool.impressions[indices]
        )

    def _build_arms(
        self,
        entries: np.ndarray,
        estimates: Posterior,
        posteriors: Posterior,
        start: np.ndarray,
        baseline_values: np.ndarray,
        slate_size: int,
    ) -> list[ExplorationArms]:
        total_positions = slate_size * baseline_values.size  # the slates share what may be lost
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
        return ExplorationArms(
            entries,
            probabilities,
            self._ledger.allowed_share(total_positions, regret),
            regret,
            ranker_probabilities,
            posteriors,
        )

    def record_slate(self, exploration_arms: ExplorationArms, filled_slate: FilledSlate) -> None:
        """Take note of a slate that was shown."""
        slate_size = filled_slate.probabilities.shape[0]
        self._ledger.spend(slate_size, exploration_arms.exploration_rate, exploration_arms.expected_regret)
        self._audit.update_many(filled_slate.probabilities, filled_slate.arm_indices)
        self._slate_count += 1
        if self._slate_count % _SLATES_PER_REPORT == 0:
            metrics.exploration_expected_regret.set(1000 * self._ledger.total_regret / max(1, self._ledger.positions))
            metrics.propensity_log_evidence.set(self._audit.evidence)
