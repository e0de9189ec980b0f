"""Estimates from logs whose truth is known."""

from collections.abc import Callable

import numpy as np
import pytest

from online_models.bandits import EpsilonGreedy, GaussianThompson, Policy, Posterior
from replay.evaluation.off_policy import Estimate, LoggedDecisions, RewardModel, doubly_robust, ips, snips

CONTEXTS, ARMS, DECISIONS = 8, 6, 4000
Estimator = Callable[[LoggedDecisions, RewardModel], Estimate]
ESTIMATORS: dict[str, Estimator] = {
    "ips": lambda logged, _: ips(logged),
    "snips": lambda logged, _: snips(logged),
    "doubly robust": doubly_robust,
}


class World:
    """Every click rate is known, so the value of every policy is."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.rate = rng.beta(1.5, 8, (CONTEXTS, ARMS))
        logging, other = Policy(GaussianThompson()), Policy(EpsilonGreedy(0.1))
        thought = self.rate + rng.normal(0, 0.05, self.rate.shape)
        self.logging = np.array([logging.probabilities(Posterior(row, np.full(ARMS, 0.1))) for row in thought])
        self.other = np.array([other.probabilities(Posterior(row, np.zeros(ARMS))) for row in thought])
        self.model = np.clip(self.rate + rng.normal(0, 0.05, self.rate.shape), 0, 1)  # wrong, but not blind
        self.truth = float((self.other * self.rate).sum(axis=1).mean())

    def log(self, seed: int, n: int = DECISIONS) -> tuple[LoggedDecisions, RewardModel]:
        rng = np.random.default_rng(seed)
        context = rng.integers(0, CONTEXTS, n)
        arm = (rng.random((n, 1)) > self.logging[context].cumsum(axis=1)).sum(axis=1).clip(max=ARMS - 1)
        reward = (rng.random(n) < self.rate[context, arm]).astype(float)
        told = RewardModel(self.model[context, arm], (self.other * self.model).sum(axis=1)[context])
        return LoggedDecisions(reward, self.logging[context, arm], self.other[context, arm]), told


WORLD = World()


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_the_truth_is_in_the_interval_95_times_of_100(estimator: Estimator) -> None:
    estimates = [estimator(*WORLD.log(seed)) for seed in range(800)]
    held = np.mean([estimate.low <= WORLD.truth <= estimate.high for estimate in estimates])
    mean = np.mean([estimate.value for estimate in estimates])

    assert 0.92 <= held <= 0.98
    assert mean == pytest.approx(WORLD.truth, rel=0.01)


def test_a_model_makes_the_interval_narrower() -> None:
    logged, model = WORLD.log(0)
    plain, robust = ips(logged), doubly_robust(logged, model)

    assert robust.high - robust.low < plain.high - plain.low


def test_the_policy_that_logged_earns_what_it_earned() -> None:
    logged, _ = WORLD.log(0)
    same = LoggedDecisions(logged.reward, logged.propensity, logged.propensity)

    assert ips(same).value == snips(same).value == logged.reward.mean()
    assert ips(same).effective_sample_size == pytest.approx(DECISIONS)


def test_more_confidence_is_a_wider_interval() -> None:
    logged, _ = WORLD.log(0)
    widths = [ips(logged, confidence).high - ips(logged, confidence).low for confidence in (0.9, 0.95, 0.99)]

    assert widths == sorted(widths)


def test_a_log_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        LoggedDecisions(np.zeros(3), np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="propensity"):
        LoggedDecisions(np.zeros(2), np.array([0.5, 0.0]), np.ones(2))
    with pytest.raises(ValueError, match="never chooses"):
        snips(LoggedDecisions(np.zeros(2), np.ones(2), np.zeros(2)))
    with pytest.raises(ValueError, match="confidence"):
        ips(LoggedDecisions(np.zeros(2), np.ones(2), np.ones(2)), 0.5)
