"""A bandit on string ids: same numbers as on keys and rows; errors name the mistake."""

from collections.abc import Callable

import numpy as np
import pytest

from online_models.bandits import (
    UCB,
    Arms,
    BetaBernoulli,
    BetaThompson,
    Choice,
    DisjointLinear,
    EpsilonGreedy,
    GaussianThompson,
    HybridLinear,
    Policy,
    RewardBatch,
    SquareCB,
)
from online_models.bandits.posteriors.discounted_arms import DiscountedArms
from stream.ids import hash_ids

IDS = ["a", "b", "c"]
CONTEXT = [1.0, 0.5, -0.5]
MakeBandit = Callable[[], DiscountedArms]
BANDITS: dict[str, tuple[MakeBandit, list[float] | None]] = {
    "beta": (BetaBernoulli, None),
    "disjoint": (lambda: DisjointLinear(3), CONTEXT),
    "hybrid": (lambda: HybridLinear(1, 2), CONTEXT),
}
RULES = {
    "epsilon": EpsilonGreedy(),
    "squarecb": SquareCB(),
    "thompson": BetaThompson(),
    "gaussian thompson": GaussianThompson(),
    "ucb": UCB(),
}


def to_bytes(bandit: DiscountedArms) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in bandit.state().items()}


@pytest.mark.parametrize(("make", "context"), BANDITS.values(), ids=BANDITS.keys())
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_ids_give_the_numbers_of_keys_and_rows(
    make: MakeBandit, context: list[float] | None, rule: EpsilonGreedy
) -> None:
    by_id, by_row, policy = make(), make(), Policy(rule)
    id_rng, row_rng = np.random.default_rng(1), np.random.default_rng(1)
    rows, x = by_row.add_arms(hash_ids(IDS)), np.zeros((1, 0)) if context is None else np.array([context])
    for i in range(20):
        choice = policy.choose(by_id, arms=IDS, context=context, rng=id_rng, ts=1_000 * i)
        by_id.learn(choice, reward=float(choice.item == "b"))
        selection = policy.sample(by_row.posterior(rows, x), 1, row_rng)
        row = int(selection.rows[0])
        reward = np.array([float(IDS[row] == "b")])
        by_row.learn(RewardBatch(rows[row : row + 1], x, reward, np.ones(1), np.array([1_000 * i])))

        assert choice == Choice(IDS[row], float(selection.propensities[0]), x, 1_000 * i)
    assert to_bytes(by_id) == to_bytes(by_row)


@pytest.mark.parametrize(("make", "context"), BANDITS.values(), ids=BANDITS.keys())
def test_rewarded_arm_becomes_the_most_likely(make: MakeBandit, context: list[float] | None) -> None:
    bandit, policy, rng = make(), Policy(BetaThompson()), np.random.default_rng(0)
    choices = []
    for _ in range(500):
        choices.append(policy.choose(bandit, arms=IDS, context=context, rng=rng))
        bandit.learn(choices[-1], reward=float(choices[-1].item == "b"))

    assert all(0 < choice.propensity <= 1 for choice in choices)
    assert [choice.item for choice in choices[-50:]].count("b") > 30


def test_context_may_differ_by_arm() -> None:
    bandit, policy = DisjointLinear(2), Policy(EpsilonGreedy(0.0))
    contexts = np.array([[1.0, 0.0], [0.0, 1.0]])
    choice = policy.choose(bandit, ["a", "b"], contexts, rng=np.random.default_rng(0))

    assert choice.context.tolist() == [contexts[["a", "b"].index(choice.item)].tolist()]


def test_arms_may_change_between_choices() -> None:
    bandit, policy, rng = BetaBernoulli(), Policy(BetaThompson()), np.random.default_rng(0)
    bandit.learn(policy.choose(bandit, ["a"], rng=rng), reward=1.0)

    assert policy.choose(bandit, Arms(["x"]), rng=rng) == Choice("x", 1.0, np.zeros((1, 0)))
    assert (bandit.lookup(hash_ids(["a", "x"])) >= 0).all()


def test_choice_does_not_share_the_context_of_its_caller() -> None:
    x = np.array([1.0, 2.0])
    choice = Policy(UCB()).choose(DisjointLinear(2), ["a"], x, rng=np.random.default_rng(0))
    x[:] = 0.0

    assert choice.context.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("ab", "arms must be a sequence of ids, got the single string 'ab'"),
        ([], "arms must hold at least one id, got none"),
        (["a", "b", "a"], "arms must be distinct, got 'a' twice"),
        (["a", 7], "arms must be strings, got 7 of type int"),
        (["a", ""], "arm has 0 bytes; expected 1 to 256 bytes of UTF-8"),
    ],
)
def test_invalid_arms_are_rejected(ids: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(UCB()).choose(BetaBernoulli(), ids, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("bandit", "context", "message"),
    [
        (DisjointLinear(3), None, r"context must have shape \(3,\) or \(2, 3\) for this bandit, got None"),
        (DisjointLinear(3), [1.0], r"context must have shape \(3,\) or \(2, 3\) for this bandit, got shape \(1,\)"),
        (DisjointLinear(3), np.zeros((3, 3)), r"got shape \(3, 3\)"),
        (DisjointLinear(1), 1.0, r"got shape \(\)"),
        (DisjointLinear(2), [1.0, np.nan], "context must hold finite numbers, got nan"),
        (BetaBernoulli(), [1.0], r"context must be None for this bandit, got shape \(1,\)"),
    ],
)
def test_invalid_context_is_rejected(bandit: DiscountedArms, context: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(UCB()).choose(bandit, ["a", "b"], context, rng=np.random.default_rng(0))


@pytest.mark.parametrize("reward", [-0.1, 1.1, np.nan, np.inf])
def test_invalid_reward_is_rejected(reward: float) -> None:
    bandit = BetaBernoulli()
    choice = Policy(UCB()).choose(bandit, ["a"], rng=np.random.default_rng(0))

    with pytest.raises(ValueError, match="reward must be from 0 to 1, got"):
        bandit.learn(choice, reward=reward)


def test_item_of_another_bandit_is_rejected() -> None:
    choice = Policy(UCB()).choose(BetaBernoulli(), ["a"], rng=np.random.default_rng(0))

    with pytest.raises(ValueError, match="item 'a' is not an arm of this bandit; expected an item that it chose"):
        BetaBernoulli().learn(choice, reward=1.0)
