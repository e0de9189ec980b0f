"""What every bandit must pass, and every policy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits import (
    UCB,
    Bandit,
    BetaBernoulli,
    BetaSettings,
    BetaThompson,
    Discounting,
    DisjointLinear,
    EpsilonGreedy,
    GaussianThompson,
    HybridLinear,
    HybridSettings,
    LinearArmSettings,
    Policy,
    Posterior,
    ProbabilityBounds,
    RewardBatch,
    SquareCB,
)
from online_models.state.tables import State

WIDTH = 5
KEYS = np.arange(3, 12, dtype=np.uint64)
DAY = 86_400_000
Make = Callable[[Discounting], Bandit]

MAKE: dict[str, Make] = {
    "beta": lambda fading: BetaBernoulli(BetaSettings(discounting=fading)),
    "disjoint": lambda fading: DisjointLinear(WIDTH, LinearArmSettings(discounting=fading)),
    "hybrid": lambda fading: HybridLinear(3, WIDTH - 3, HybridSettings(discounting=fading)),
}
FADING = {
    "fading": Discounting(half_life=2 * 86_400, change_threshold=50),
    "still": Discounting(half_life=0, change_threshold=0),
}
RULES = {
    "epsilon": EpsilonGreedy(0.2),
    "squarecb": SquareCB(50.0),
    "thompson": BetaThompson(),
    "normal thompson": GaussianThompson(),
    "upper bounds": UCB(temperature=0.2),
}


@pytest.fixture(params=MAKE.values(), ids=MAKE.keys())
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


@pytest.fixture(params=FADING.values(), ids=FADING.keys())
def bandit(request: pytest.FixtureRequest, make: Make) -> Bandit:
    return begun(make, request.param)


@pytest.fixture(params=RULES.values(), ids=RULES.keys())
def policy(request: pytest.FixtureRequest) -> Policy:
    return Policy(request.param)


def begun(make: Make, fading: Discounting) -> Bandit:
    made = make(fading)
    made.add_arms(KEYS)
    return made


def generated(n: int = 2000, seed: int = 0, days: float = 6.0) -> RewardBatch:
    """Arms whose rates differ by context, and turn round halfway."""
    rng = np.random.default_rng(seed)
    arms, x = rng.integers(0, KEYS.size, n), rng.normal(0, 0.5, (n, WIDTH))
    ts = np.sort(rng.integers(0, int(days * DAY), n)) + 1_767_225_600_000
    way = np.where(ts < np.median(ts), 1, -1)
    rate = 1 / (1 + np.exp(-way * (0.6 * (arms - KEYS.size / 2) + x[:, 0])))
    return RewardBatch(arms.astype(np.int32), x, (rng.random(n) < rate).astype(float), np.ones(n), ts)


def batches(rewards: RewardBatch, size: int = 128) -> list[RewardBatch]:
    return [rewards.take(np.arange(i, min(i + size, len(rewards)))) for i in range(0, len(rewards), size)]


def copied(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


def bits(state: State) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(array).tobytes() for name, array in state.items()}


def judged(bandit: Bandit) -> np.ndarray:
    x = np.random.default_rng(9).normal(0, 0.5, (KEYS.size, WIDTH))
    return np.array(bandit.posterior(bandit.lookup(KEYS), x))


# Bandits


def test_learning_leaves_its_input_alone(bandit: Bandit) -> None:
    told = generated()
    before = bits({name: getattr(told, name) for name in told.__slots__})
    bandit.learn(told)

    assert bits({name: getattr(told, name) for name in told.__slots__}) == before


def test_judging_leaves_the_bandit_alone(bandit: Bandit) -> None:
    bandit.learn(generated())
    before = bits(bandit.state())
    judged(bandit)
    Policy(UCB()).choose(Posterior(*judged(bandit)), 3, np.random.default_rng(0))

    assert bits(bandit.state()) == before


def test_the_same_start_gives_the_same_run(make: Make) -> None:
    first, second = begun(make, FADING["fading"]), begun(make, FADING["fading"])
    for part in batches(generated()):
        first.learn(part)
        second.learn(part)

    assert bits(first.state()) == bits(second.state())


def test_splitting_a_batch_changes_nothing(make: Make) -> None:
    whole, split = begun(make, FADING["fading"]), begun(make, FADING["fading"])
    whole.learn(generated())
    for part in batches(generated(), 77):
        split.learn(part)

    assert bits(whole.state()) == bits(split.state())


def test_a_restored_bandit_goes_on_with_the_same_bits(make: Make) -> None:
    bandit, restored = begun(make, FADING["fading"]), make(FADING["fading"])
    parts = batches(generated())
    for part in parts[:8]:
        bandit.learn(part)
    restored.restore(copied(bandit.state()))
    for part in parts[8:]:
        assert judged(restored).tobytes() == judged(bandit).tobytes()
        bandit.learn(part)
        restored.learn(part)

    assert bits(restored.state()) == bits(bandit.state())


def test_a_replica_judges_with_the_same_bits(make: Make) -> None:
    bandit, replica = begun(make, FADING["fading"]), make(FADING["fading"])
    for part in batches(generated()):
        bandit.learn(part)
        replica.apply(copied(bandit.changes()))
        assert judged(replica).tobytes() == judged(bandit).tobytes()

    assert bits(replica.state()) == bits(bandit.state())


@pytest.mark.parametrize("half_life", [0.0, 86_400.0], ids=["still", "fading"])
def test_rewards_that_come_late_or_shuffled_give_the_same_posterior(make: Make, half_life: float) -> None:
    fading = Discounting(half_life, change_threshold=0)
    in_time, late, shuffled = begun(make, fading), begun(make, fading), begun(make, fading)
    told, rng = generated(), np.random.default_rng(4)
    arrival = np.argsort(told.ts + rng.exponential(10 * 60_000, len(told)))
    in_time.learn(told)
    for part in batches(told.take(arrival), 50):
        late.learn(part)
    for part in batches(told.take(rng.permutation(len(told))), 50):
        shuffled.learn(part)

    assert judged(late) == pytest.approx(judged(in_time), abs=1e-9)
    assert judged(shuffled) == pytest.approx(judged(in_time), abs=1e-9)


def test_rows_that_are_no_numbers_teach_nothing_and_are_counted(make: Make) -> None:
    bandit = begun(make, FADING["fading"])
    bandit.learn(generated())
    before, refused = bits(bandit.state()), 0
    good = generated(40, seed=1)
    for name, wrong in (
        ("reward", np.nan), ("reward", np.inf), ("reward", -1), ("reward", 2),
        ("weight", np.nan), ("weight", np.inf), ("weight", -1), ("ts", -1), ("ts", 2**62),
    ):  # fmt: skip
        fields = {each: getattr(good, each).copy() for each in good.__slots__}
        fields[name][:] = wrong
        bandit.learn(RewardBatch(**fields))
        refused += len(good)

    assert bandit.skipped == refused
    assert bits(bandit.state()) == before


def test_hostile_input_leaves_everything_finite(bandit: Bandit) -> None:
    good = generated(300)
    for x in (np.nan, np.inf, -1e300, 1e38, 1e3, 1e-300, 0.0):
        for weight in (0.0, 1e-300, 1.0, 1e38):
            contexts = np.full_like(good.contexts, x)
            bandit.learn(
                RewardBatch(good.arms, contexts, good.reward, np.full(len(good), weight), good.ts[::-1].copy())
            )
            asked = bandit.posterior(bandit.lookup(KEYS), contexts[:1])
            assert np.isfinite(np.array(asked)).all()
            assert all(np.isfinite(array).all() for array in bandit.state().values())
    bandit.learn(good)

    assert np.isfinite(judged(bandit)).all()


def test_what_is_learnt_is_near_the_truth(make: Make) -> None:
    bandit = begun(make, FADING["still"])
    told = generated(8000)
    before = told.take(np.flatnonzero(told.ts < np.median(told.ts)))
    bandit.learn(before)

    rates = [before.reward[before.arms == arm].mean() for arm in range(KEYS.size)]
    x = before.contexts.mean(axis=0, keepdims=True)
    fit = np.corrcoef(bandit.posterior(bandit.lookup(KEYS), x).means, rates)[0, 1]

    assert fit > (0.95 if isinstance(bandit, BetaBernoulli) else 0.3)


def test_a_past_that_is_refuted_is_dropped(make: Make) -> None:
    bandit, still = begun(make, Discounting()), begun(make, Discounting(change_threshold=0))
    n = 400
    x = np.zeros((n, WIDTH))
    x[:, 0] = 1.0
    one = np.zeros(n, np.int32), x, np.ones(n), np.ones(n)
    for each in (bandit, still):
        each.learn(RewardBatch(*one, 1000 * np.arange(1, n + 1)))
        each.learn(RewardBatch(one[0][:20], x[:20], np.zeros(20), np.ones(20), 1000 * np.arange(n + 1, n + 21)))
    arms = bandit.lookup(KEYS[:1])

    assert bandit.alarms == 1
    assert bandit.posterior(arms, x[:1]).means[0] < 0.75
    assert still.posterior(arms, x[:1]).means[0] > 0.9


def test_a_world_that_stays_raises_few_alarms(make: Make) -> None:
    bandit = begun(make, Discounting(change_threshold=20_000))
    rng, n = np.random.default_rng(2), 100_000
    x = np.zeros((n, WIDTH))
    x[:, 0] = 1.0
    arms = rng.integers(0, KEYS.size, n).astype(np.int32)
    reward = (rng.random(n) < np.array([0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.99, 1.0])[arms]).astype(float)
    bandit.learn(RewardBatch(arms, x, reward, np.ones(n), 1000 * np.arange(1, n + 1)))

    assert bandit.alarms <= 5  # what is promised: n / patience on average


def test_a_retired_arm_is_forgotten(bandit: Bandit) -> None:
    fresh = judged(bandit)[:, 4]
    bandit.learn(generated())
    bandit.remove_arms(bandit.lookup(KEYS[4:5]))

    assert bandit.lookup(KEYS[4:5]).tolist() == [-1]
    bandit.add_arms(KEYS[4:5])
    if not isinstance(bandit, HybridLinear):
        assert judged(bandit)[:, 4] == pytest.approx(fresh)


def test_an_arm_that_is_not_there_is_refused(bandit: Bandit) -> None:
    bandit.learn(
        RewardBatch(np.array([-1, 999], np.int32), np.zeros((2, WIDTH)), np.ones(2), np.ones(2), np.ones(2, int))
    )

    assert bandit.skipped == 1
    for row in (-1, 999):
        with pytest.raises(ValueError, match=f"got {row}"):
            bandit.posterior(np.array([row], np.int32), np.zeros((1, WIDTH)))


@pytest.mark.parametrize("name", ["disjoint", "hybrid"])
def test_a_context_of_another_width_is_refused(name: str) -> None:
    bandit = begun(MAKE[name], FADING["still"])
    with pytest.raises(ValueError, match="contexts must be"):
        bandit.posterior(bandit.lookup(KEYS), np.zeros((1, WIDTH + 1)))
    with pytest.raises(ValueError, match="contexts must be"):
        bandit.learn(RewardBatch(np.zeros(1, np.int32), np.zeros((1, 2)), np.ones(1), np.ones(1), np.ones(1, np.int64)))


# Policies


JUDGED = {
    "one arm": Posterior(np.array([0.3]), np.array([0.1])),
    "equal arms": Posterior(np.full(6, 0.3), np.full(6, 0.1)),
    "one is far ahead": Posterior(np.array([0.1, 0.95, 0.2]), np.full(3, 1e-3)),
    "sure and unsure": Posterior(np.array([0.5, 0.4, 0.45, 0.1]), np.array([1e-9, 0.2, 0.01, 0.4])),
    "forty": Posterior(np.linspace(0, 0.2, 40), np.linspace(0.1, 0.01, 40)),
}


@pytest.mark.parametrize("asked", JUDGED.values(), ids=JUDGED.keys())
def test_chances_are_a_distribution_within_bounds(policy: Policy, asked: Posterior) -> None:
    before = np.array(asked)
    chances = policy.probabilities(asked)

    assert chances.sum() == pytest.approx(1, abs=1e-12)
    assert (chances >= policy.bounds.floor * (1 - 1e-9)).all()
    assert (np.array(asked) == before).all()
    assert (policy.probabilities(asked) == chances).all()


@given(
    means=st.lists(st.floats() | st.floats(0, 1), min_size=1, max_size=20),
    spreads=st.lists(st.floats(0, 1) | st.floats(), min_size=20, max_size=20),
    rule=st.sampled_from(list(RULES.values())),
    floor=st.floats(1e-9, 0.5),
    cap=st.floats(0.5, 1.0),
)
def test_chances_are_a_distribution_whatever_is_thought_of_arms(
    means: list[float], spreads: list[float], rule: EpsilonGreedy, floor: float, cap: float
) -> None:
    chances = Policy(rule, ProbabilityBounds(floor, cap)).probabilities(
        Posterior(np.array(means), np.array(spreads[: len(means)]))
    )

    assert chances.sum() == pytest.approx(1)
    assert (chances > 0).all()
    assert (chances <= 1 + 1e-12).all()
    assert len(means) == 1 or chances.max() <= max(cap, 1 / len(means)) + 1e-9


def test_equal_arms_have_equal_chances(policy: Policy) -> None:
    assert policy.probabilities(JUDGED["equal arms"]) == pytest.approx(np.full(6, 1 / 6))


def test_the_same_seed_gives_the_same_slate(policy: Policy) -> None:
    one, other = (policy.choose(JUDGED["forty"], 10, np.random.default_rng(3)) for _ in range(2))

    assert one.rows.tolist() == other.rows.tolist()
    assert one.propensities.tolist() == other.propensities.tolist()


def test_no_arms_make_no_slate(policy: Policy) -> None:
    nothing = Posterior(np.zeros(0), np.zeros(0))

    assert policy.probabilities(nothing).size == 0
    assert policy.choose(nothing, 3, np.random.default_rng(0)).rows.size == 0


def test_a_slate_longer_than_the_arms_holds_each_once(policy: Policy) -> None:
    placed = policy.choose(JUDGED["sure and unsure"], 9, np.random.default_rng(0))

    assert sorted(placed.rows.tolist()) == [0, 1, 2, 3]
    assert placed.propensities[-1] == pytest.approx(1)


def test_a_cap_leaves_something_for_the_others() -> None:
    chances = Policy(EpsilonGreedy(0.0), ProbabilityBounds(floor=0.01, cap=0.8)).probabilities(
        JUDGED["one is far ahead"]
    )

    assert chances == pytest.approx([0.1, 0.8, 0.1])


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_normal_thompson_tells_how_often_a_draw_is_the_greatest(scale: float) -> None:
    asked, rng = JUDGED["sure and unsure"], np.random.default_rng(1)
    draws = rng.normal(asked.means, scale * asked.stds, (200_000, 4))
    drawn = np.bincount(draws.argmax(axis=1), minlength=4) / 200_000

    assert Policy(GaussianThompson(scale)).probabilities(asked) == pytest.approx(drawn, abs=0.01)


ARMS = {
    "alike": (np.full(60, 0.1), np.full(60, 0.05)),
    "sure and unsure": (np.linspace(0.0, 0.3, 40), np.geomspace(1e-3, 0.5, 40)),
    "one that is certain": (np.array([0.5, 0.4, 0.45, 0.1]), np.array([1e-12, 0.2, 0.01, 0.4])),
    "far apart": (np.linspace(0, 1e6, 5), np.full(5, 1e-12)),
}


@pytest.mark.parametrize(("means", "spreads"), ARMS.values(), ids=ARMS.keys())
def test_normal_thompson_is_the_integral_over_where_the_greatest_draw_is(
    means: np.ndarray, spreads: np.ndarray
) -> None:
    around = (means[:, None] + np.maximum(spreads, 1e-9)[:, None] * np.linspace(-8, 8, 801)).ravel()
    edges = np.union1d(around, np.linspace(around.min(), around.max(), 5_000))
    below = 0.5 * np.vectorize(math.erfc)((means[:, None] - edges) / (np.sqrt(2) * np.maximum(spreads, 1e-9)[:, None]))
    others = np.exp(np.log(np.maximum(below, 1e-300)).sum(axis=0) - np.log(np.maximum(below, 1e-300)))
    told = (np.diff(below, axis=1) * (others[:, 1:] + others[:, :-1]) / 2).sum(axis=1)

    assert GaussianThompson().probabilities(Posterior(means, spreads)) == pytest.approx(told, abs=2e-4)


def test_thompson_draws_from_the_betas_of_a_beta_bandit() -> None:
    bandit = begun(MAKE["beta"], FADING["still"])
    bandit.learn(generated(300))
    counts = bandit.state()["counts"]
    draws = np.random.default_rng(1).beta(counts[:, 0] + counts[:, 2], counts[:, 1] + counts[:, 3], (100_000, 9))
    drawn = np.bincount(draws.argmax(axis=1), minlength=9) / 100_000

    told = Policy(BetaThompson()).probabilities(bandit.posterior(bandit.lookup(KEYS), np.zeros((1, 0))))

    assert told == pytest.approx(drawn, abs=0.01)


def test_squarecb_weighs_by_the_inverse_of_the_gap() -> None:
    chances = SquareCB(gamma=10.0).probabilities(Posterior(np.array([0.5, 0.1, 0.4]), np.zeros(3)))

    assert chances == pytest.approx([1 - 1 / 7 - 1 / 4, 1 / (3 + 4), 1 / (3 + 1)])


def test_the_greatest_upper_bound_has_nearly_all_of_the_chance() -> None:
    chances = Policy(UCB(alpha=1.0)).probabilities(Posterior(np.array([0.5, 0.3, 0.1]), np.array([0.0, 0.3, 0.1])))

    assert chances[1] > 0.9999


@pytest.mark.parametrize(
    ("make_wrong", "name"),
    [
        (lambda: Discounting(half_life=-1), "half_life"),
        (lambda: Discounting(change_threshold=0.5), "patience"),
        (lambda: Discounting(retained_ratio=1), "kept"),
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
        (lambda: HybridLinear(0, 1), "own"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_cannot_be_is_refused_by_name(make_wrong: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make_wrong()


def test_rewards_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="as long as arms"):
        RewardBatch(np.zeros(2, np.int32), np.zeros((2, 1)), np.zeros(1), np.zeros(2), np.zeros(2, np.int64))
