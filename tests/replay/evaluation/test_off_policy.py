"""Off-policy estimates agree with the known value of the target policy."""

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
    """Known click probabilities, so that the value of every policy is known."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.rate = rng.beta(1.5, 8, (CONTEXTS, ARMS))
        logging, target = Policy(GaussianThompson()), Policy(EpsilonGreedy(0.1))
        estimates = self.rate + rng.normal(0, 0.05, self.rate.shape)
        self.logging = np.array([logging.probabilities(Posterior(row, np.full(ARMS, 0.1))) for row in estimates])
        self.target = np.array([target.probabilities(Posterior(row, np.zeros(ARMS))) for row in estimates])
        self.model = np.clip(self.rate + rng.normal(0, 0.05, self.rate.shape), 0, 1)  # noisy
        self.truth = float((self.target * self.rate).sum(axis=1).mean())

    def log(self, seed: int, n: int = DECISIONS) -> tuple[LoggedDecisions, RewardModel]:
        rng = np.random.default_rng(seed)
        context = rng.integers(0, CONTEXTS, n)
        arm = (rng.random((n, 1)) > self.logging[context].cumsum(axis=1)).sum(axis=1).clip(max=ARMS - 1)
        reward = (rng.random(n) < self.rate[context, arm]).astype(float)
        model = RewardModel(self.model[context, arm], (self.target * self.model).sum(axis=1)[context])
        return LoggedDecisions(reward, self.logging[context, arm], self.target[context, arm]), model


WORLD = World()


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_interval_contains_the_truth_in_95_of_100_logs(estimator: Estimator) -> None:
    estimates = [estimator(*WORLD.log(seed)) for seed in range(800)]
    coverage = np.mean([estimate.low <= WORLD.truth <= estimate.high for estimate in estimates])
    mean = np.mean([estimate.value for estimate in estimates])

    assert 0.92 <= coverage <= 0.98
    assert mean == pytest.approx(WORLD.truth, rel=0.01)


def test_reward_model_narrows_the_interval() -> None:
    logged, model = WORLD.log(0)
    plain, robust = ips(logged), doubly_robust(logged, model)

    assert robust.high - robust.low < plain.high - plain.low


def test_logging_policy_has_the_logged_mean_reward() -> None:
    logged, _ = WORLD.log(0)
    same = LoggedDecisions(logged.reward, logged.propensity, logged.propensity)

    assert ips(same).value == snips(same).value == logged.reward.mean()
    assert ips(same).effective_sample_size == pytest.approx(DECISIONS)


def test_higher_confidence_widens_the_interval() -> None:
    logged, _ = WORLD.log(0)
    widths = [ips(logged, confidence).high - ips(logged, confidence).low for confidence in (0.9, 0.95, 0.99)]

    assert widths == sorted(widths)


def test_invalid_logs_are_rejected() -> None:
    with pytest.raises(ValueError, match="same size"):
        LoggedDecisions(np.zeros(3), np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="propensity"):
        LoggedDecisions(np.zeros(2), np.array([0.5, 0.0]), np.ones(2))
    with pytest.raises(ValueError, match="never chooses"):
        snips(LoggedDecisions(np.zeros(2), np.ones(2), np.zeros(2)))
    with pytest.raises(ValueError, match="confidence"):
        ips(LoggedDecisions(np.zeros(2), np.ones(2), np.ones(2)), 0.5)
