"""Speed of the bandits beside MABWiser, River and Vowpal Wabbit where installed; one core.

A prediction scores all arms for one context and chooses one with its propensity. Predictions and updates are single, as
in serving, unless the name says "batches". CPU seconds of all threads are counted.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness.runs import Numbers, RunSize, run_benchmark
from online_models.bandits import UCB, Bandit, DisjointLinear, GaussianThompson, HybridLinear, Policy, RewardBatch
from online_models.model import RecommenderModel

SHAPES = ((34, 20), (1_000, 32))  # (arms, context size)
BATCH = 256
CATEGORIES, N_COLD_ITEMS = 200, 32  # catalog categories, and cold items per prediction
_MEASURE_SECONDS = 1.0  # CPU seconds per measurement


def make_rewards(arms: int, d: int, n: int) -> RewardBatch:
    rng = np.random.default_rng(1)
    reward = (rng.random(n) < 0.3).astype(float)
    rows = rng.integers(0, arms, n).astype(np.int32)
    return RewardBatch(rows, rng.normal(0, 1, (n, d)), reward, np.ones(n), 1_000 * np.arange(1, n + 1))


def measure_rate(call: Callable[[int], object], limit: int, batch_size: int = 1) -> float:
    """Calls per CPU second × `batch_size`, from at most `limit` calls."""
    begin, n_calls = time.process_time(), 0
    while n_calls < limit and (n_calls % 16 or time.process_time() - begin < _MEASURE_SECONDS):
        call(n_calls)
        n_calls += 1
    return n_calls * batch_size / (time.process_time() - begin)


def measure_bandit(name: str, make: Callable[[int], Bandit], policy: Policy, arms: int, d: int, n: int) -> Numbers:
    rewards, rng = make_rewards(arms, d, n), np.random.default_rng(2)
    rows = [rewards.take(np.arange(i, i + 1)) for i in range(n)]
    batches = [rewards.take(np.arange(i, i + BATCH)) for i in range(0, n - BATCH, BATCH)]
    bandit = make(d)
    all_arms = bandit.add_arms(np.arange(1, arms + 1, dtype=np.uint64))
    contexts = [row.contexts for row in rows]
    bandit.learn(rows[0])
    policy.sample(bandit.posterior(all_arms, contexts[0]), 1, rng)  # compiles the kernels
    label = f"{name}, {arms:,} arms, d = {d}"
    choose = lambda i: policy.sample(bandit.posterior(all_arms, contexts[i]), 1, rng)  # noqa: E731
    learn_batch = lambda i: bandit.learn(batches[i])  # noqa: E731
    return {
        f"{label}, updates/s": measure_rate(lambda i: bandit.learn(rows[i]), n),
        f"{label}, updates/s in batches of {BATCH}": measure_rate(learn_batch, len(batches), BATCH),
        f"{label}, predictions/s": measure_rate(choose, n),
    }


def measure_mabwiser(arms: int, d: int, n: int) -> Numbers:
    from mabwiser.mab import MAB, LearningPolicy

    rewards = make_rewards(arms, d, n)
    bandit = MAB(list(range(arms)), LearningPolicy.LinUCB(alpha=1.0))
    bandit.fit(rewards.arms[:100].tolist(), rewards.reward[:100].tolist(), rewards.contexts[:100])
    label, x = f"MABWiser LinUCB, {arms:,} arms, d = {d}", rewards.contexts
    learn = lambda i: bandit.partial_fit([int(rewards.arms[i])], [rewards.reward[i]], x[i : i + 1])  # noqa: E731
    return {
        f"{label}, updates/s": measure_rate(learn, n),
        f"{label}, predictions/s": measure_rate(lambda i: bandit.predict(x[i : i + 1]), n),
    }


def measure_river(arms: int, d: int, n: int) -> Numbers:
    from river.bandit import LinUCBDisjoint

    rewards, bandit, names = make_rewards(arms, d, n), LinUCBDisjoint(seed=1), list(range(arms))
    contexts = [dict(enumerate(row)) for row in rewards.contexts.tolist()]
    for i in range(4 * arms):
        bandit.update(int(rewards.arms[i % n]), contexts[i % n], rewards.reward[i % n])
    label = f"River LinUCB, {arms:,} arms, d = {d}"
    learn = lambda i: bandit.update(int(rewards.arms[i]), contexts[i], rewards.reward[i])  # noqa: E731
    return {
        f"{label}, updates/s": measure_rate(learn, n),
        f"{label}, predictions/s": measure_rate(lambda i: bandit.pull(names, context=contexts[i]), n),
    }


def measure_vowpal_wabbit(arms: int, d: int, n: int) -> Numbers:
    """SquareCB, since it has no LinUCB; its Python interface takes examples as text."""
    from vowpalwabbit import Workspace

    n = min(n, 200_000 // arms)
    rewards, bandit = make_rewards(arms, d, n), Workspace("--cb_explore_adf --squarecb --quiet -q CA")

    def lines(i: int, label: str) -> list[str]:
        shared = "shared |C " + " ".join(f"{j}:{x:.4f}" for j, x in enumerate(rewards.contexts[i].tolist()))
        return [shared, *(f"{label if a == rewards.arms[i] else ''}|A {a}" for a in range(arms))]

    prediction_lines = [lines(i, "") for i in range(n)]
    training_lines = [lines(i, f"0:{-rewards.reward[i]}:0.1 ") for i in range(n)]
    title = f"Vowpal Wabbit SquareCB, {arms:,} arms, d = {d}"
    return {
        f"{title}, updates/s": measure_rate(lambda i: bandit.learn(training_lines[i]), n),
        f"{title}, predictions/s": measure_rate(lambda i: bandit.predict(prediction_lines[i]), n),
    }


def measure_category_bandit(n: int) -> Numbers:
    """Measure the live bandit: training on closed impressions, and predictions for cold items."""
    model, rng = RecommenderModel(), np.random.default_rng(3)
    keys = np.arange(1, 10_001, dtype=np.uint64)
    categories = np.repeat((20_000 + keys % CATEGORIES)[:, None], 4, axis=1)
    rows = model.set_item_attributes(keys, categories, np.full(keys.size, 1), np.full(keys.size, 1.0, np.float32))
    item_rows = rng.choice(rows, n)
    x = rng.normal(0, 1, (n, len(model.feature_names))).astype(np.float32)
    probability, label = np.full(n, 0.1), (rng.random(n) < 0.1).astype(np.float32)
    ts, bandit = np.full(n, 1_767_225_600_000), model.bandit
    cold_items = item_rows[:N_COLD_ITEMS], x[:N_COLD_ITEMS], probability[:N_COLD_ITEMS]

    def learn(_: int) -> None:
        bandit.learn(item_rows, x, probability, label, ts)

    def score(_: int) -> object:
        return bandit.posterior(*cold_items, 0.1)

    learn(0)  # compiles the kernels
    score(0)
    return {
        f"live bandit, {CATEGORIES} categories, slate items trained/s": measure_rate(learn, 1_000_000, n),
        f"live bandit, {CATEGORIES} categories, predictions of {N_COLD_ITEMS} items/s": measure_rate(score, 1_000_000),
    }


PEERS: dict[str, tuple[str, Callable[[int, int, int], Numbers]]] = {
    "MABWiser": ("mabwiser", measure_mabwiser),
    "River": ("river", measure_river),
    "Vowpal Wabbit": ("vowpalwabbit", measure_vowpal_wabbit),
}
BANDITS: dict[str, tuple[Callable[[int], Bandit], Policy]] = {
    "headrace LinUCB": (DisjointLinear, Policy(UCB())),
    "headrace hybrid LinUCB": (lambda d: HybridLinear(d // 2, d - d // 2), Policy(UCB())),
    "headrace linear Thompson": (DisjointLinear, Policy(GaussianThompson())),
}


def measure(size: RunSize) -> Iterator[Numbers]:
    n = size.choose(20_000, 1_000)
    for run in range(size.runs):
        numbers: dict[str, Any] = measure_category_bandit(size.choose(4_000, 400))
        for arms, d in SHAPES:
            for name, (make, policy) in BANDITS.items():
                numbers |= measure_bandit(name, make, policy, arms, d, n)
            for name, (package, peer) in PEERS.items():
                if importlib.util.find_spec(package) is None:
                    if run == 0:
                        print(
                            f"{name} is skipped; to install it: {sys.executable} -m pip install {package}",
                            file=sys.stderr,
                        )
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # raised by the peers
                    numbers |= peer(arms, d, n)
        yield numbers


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
