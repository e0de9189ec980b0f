"""Every bandit and every policy passes the public checks."""

from collections.abc import Callable

import numpy as np
import pytest

from online_models.bandits import (
    UCB,
    BetaBernoulli,
    BetaSettings,
    BetaThompson,
    ChoiceRule,
    Discounting,
    DisjointLinear,
    EpsilonGreedy,
    GaussianThompson,
    HybridLinear,
    HybridSettings,
    LinearArmSettings,
    Policy,
    ProbabilityBounds,
    RewardBatch,
    SquareCB,
)
from online_models.checks import BANDIT, POLICY
from online_models.checks.bandits import (
    DISCOUNTED,
    KEYS,
    UNDISCOUNTED,
    WIDTH,
    BanditFactory,
    correlate_with_rates,
    generate_rewards,
    predict_posterior,
    start_bandit,
)

BANDITS: dict[str, BanditFactory] = {
    "beta": lambda discounting: BetaBernoulli(BetaSettings(discounting=discounting)),
    "disjoint": lambda discounting: DisjointLinear(WIDTH, LinearArmSettings(discounting=discounting)),
    "hybrid": lambda discounting: HybridLinear(3, WIDTH - 3, HybridSettings(discounting=discounting)),
}
RULES: dict[str, ChoiceRule] = {
    "epsilon": EpsilonGreedy(0.2),
    "squarecb": SquareCB(50.0),
    "thompson": BetaThompson(),
    "gaussian thompson": GaussianThompson(),
    "ucb": UCB(temperature=0.2),
}


@pytest.mark.parametrize("check", BANDIT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", BANDITS.values(), ids=BANDITS.keys())
def test_bandit_passes(make: BanditFactory, check: Callable[[BanditFactory], None]) -> None:
    check(make)


@pytest.mark.parametrize("check", POLICY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_policy_passes(rule: ChoiceRule, check: Callable[[Policy], None]) -> None:
    check(Policy(rule))


def test_beta_means_are_close_to_the_rates() -> None:
    assert correlate_with_rates(start_bandit(BANDITS["beta"], UNDISCOUNTED)) > 0.95


@pytest.mark.parametrize("name", ["beta", "disjoint"])
@pytest.mark.parametrize("discounting", [DISCOUNTED, UNDISCOUNTED], ids=["discounted", "undiscounted"])
def test_removed_arm_starts_from_its_prior(name: str, discounting: Discounting) -> None:
    bandit = start_bandit(BANDITS[name], discounting)
    prior = np.array(predict_posterior(bandit))[:, 4]
    bandit.learn(generate_rewards())
    bandit.remove_arms(bandit.lookup(KEYS[4:5]))
    bandit.add_arms(KEYS[4:5])

    assert np.array(predict_posterior(bandit))[:, 4] == pytest.approx(prior)


@pytest.mark.parametrize("name", ["disjoint", "hybrid"])
def test_context_of_another_width_is_rejected(name: str) -> None:
    bandit = start_bandit(BANDITS[name], DISCOUNTED)
    with pytest.raises(ValueError, match="contexts must be"):
        bandit.posterior(bandit.lookup(KEYS), np.zeros((1, WIDTH + 1)))
    with pytest.raises(ValueError, match="contexts must be"):
        bandit.learn(RewardBatch(np.zeros(1, np.int32), np.zeros((1, 2)), np.ones(1), np.ones(1), np.ones(1, np.int64)))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Discounting(half_life=-1), "half_life"),
        (lambda: Discounting(change_threshold=0.5), "change_threshold"),
        (lambda: Discounting(retained_ratio=1), "retained_ratio"),
        (lambda: BetaSettings(mean=0), "mean"),
        (lambda: BetaSettings(strength=0), "strength"),
        (lambda: LinearArmSettings(ridge=0), "ridge"),
        (lambda: HybridSettings(noise=float("nan")), "noise"),
        (lambda: ProbabilityBounds(floor=0), "floor"),
        (lambda: ProbabilityBounds(cap=0.2), "cap"),
        (lambda: EpsilonGreedy(2), "epsilon"),
        (lambda: SquareCB(-1), "gamma"),
        (lambda: UCB(alpha=-1), "alpha"),
        (lambda: UCB(temperature=0), "temperature"),
        (lambda: GaussianThompson(0), "scale"),
        (lambda: DisjointLinear(0), "width"),
        (lambda: HybridLinear(0, 1), "arm_width"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_name_the_invalid_value(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def test_rewards_of_unequal_length_are_rejected() -> None:
    with pytest.raises(ValueError, match="as long as arms"):
        RewardBatch(np.zeros(2, np.int32), np.zeros((2, 1)), np.zeros(1), np.zeros(2), np.zeros(2, np.int64))
