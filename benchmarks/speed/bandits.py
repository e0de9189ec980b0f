"""How fast bandits answer and learn, beside MABWiser, River and Vowpal Wabbit where they are installed; one core.

A prediction judges every arm in a context of its own and chooses one, with its propensity; predictions and updates
come one at a time, as in serving, unless batches are named. CPU seconds are counted, of all threads.
"""

# ruff: noqa: E402 - one core must be asked for before numpy is loaded
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

from benchmarks.harness.runs import Numbers, Size, run_alone
from online_models.bandits import Bandit, Disjoint, Hybrid, NormalThompson, Policy, Rewards, UpperBounds
from online_models.model import Stack

SHAPES = ((34, 20), (1_000, 32))  # arms, numbers of a context
BATCH = 256
CATEGORIES, FRESH = 200, 32  # of the shop, and fresh items of an answer
_SECONDS = 1.0  # that one measurement takes, about


def rewards_of(arms: int, d: int, n: int) -> Rewards:
    rng = np.random.default_rng(1)
    reward = (rng.random(n) < 0.3).astype(float)
    chosen = rng.integers(0, arms, n).astype(np.int32)
    return Rewards(chosen, rng.normal(0, 1, (n, d)), reward, np.ones(n), 1_000 * np.arange(1, n + 1))


def rate(do: Callable[[int], object], limit: int, at_once: int = 1) -> float:
    """Calls a second, of up to `limit`."""
    begin, done = time.process_time(), 0
    while done < limit and (done % 16 or time.process_time() - begin < _SECONDS):
        do(done)
        done += 1
    return done * at_once / (time.process_time() - begin)


def ours(name: str, make: Callable[[int], Bandit], policy: Policy, arms: int, d: int, n: int) -> Numbers:
    told, rng = rewards_of(arms, d, n), np.random.default_rng(2)
    rows = [told.take(np.arange(i, i + 1)) for i in range(n)]
    batches = [told.take(np.arange(i, i + BATCH)) for i in range(0, n - BATCH, BATCH)]
    bandit = make(d)
    all_arms = bandit.admit(np.arange(1, arms + 1, dtype=np.uint64))
    contexts = [row.contexts for row in rows]
    bandit.learn(rows[0])
    policy.choose(bandit.judge(all_arms, contexts[0]), 1, rng)  # compiled
    what = f"{name}, {arms:,} arms, d = {d}"
    return {
        f"{what}, updates/s": rate(lambda i: bandit.learn(rows[i]), n),
        f"{what}, updates/s in batches of {BATCH}": rate(lambda i: bandit.learn(batches[i]), len(batches), BATCH),
        f"{what}, predictions/s": rate(lambda i: policy.choose(bandit.judge(all_arms, contexts[i]), 1, rng), n),
    }


def mabwiser(arms: int, d: int, n: int) -> Numbers:
    from mabwiser.mab import MAB, LearningPolicy

    told = rewards_of(arms, d, n)
    bandit = MAB(list(range(arms)), LearningPolicy.LinUCB(alpha=1.0))
    bandit.fit(told.arms[:100].tolist(), told.reward[:100].tolist(), told.contexts[:100])
    what, x = f"MABWiser LinUCB, {arms:,} arms, d = {d}", told.contexts
    learn = lambda i: bandit.partial_fit([int(told.arms[i])], [told.reward[i]], x[i : i + 1])  # noqa: E731
    return {
        f"{what}, updates/s": rate(learn, n),
        f"{what}, predictions/s": rate(lambda i: bandit.predict(x[i : i + 1]), n),
    }


def river(arms: int, d: int, n: int) -> Numbers:
    from river.bandit import LinUCBDisjoint

    told, bandit, names = rewards_of(arms, d, n), LinUCBDisjoint(seed=1), list(range(arms))
    contexts = [dict(enumerate(row)) for row in told.contexts.tolist()]
    for i in range(4 * arms):
        bandit.update(int(told.arms[i % n]), contexts[i % n], told.reward[i % n])
    what = f"River LinUCB, {arms:,} arms, d = {d}"
    return {
        f"{what}, updates/s": rate(lambda i: bandit.update(int(told.arms[i]), contexts[i], told.reward[i]), n),
        f"{what}, predictions/s": rate(lambda i: bandit.pull(names, context=contexts[i]), n),
    }


def vowpal_wabbit(arms: int, d: int, n: int) -> Numbers:
    """SquareCB, since it has no LinUCB; each example is made of text, as its Python interface wants it."""
    from vowpalwabbit import Workspace

    n = min(n, 200_000 // arms)
    told, bandit = rewards_of(arms, d, n), Workspace("--cb_explore_adf --squarecb --quiet -q CA")

    def lines(i: int, label: str) -> list[str]:
        shared = "shared |C " + " ".join(f"{j}:{x:.4f}" for j, x in enumerate(told.contexts[i].tolist()))
        return [shared, *(f"{label if a == told.arms[i] else ''}|A {a}" for a in range(arms))]

    asked = [lines(i, "") for i in range(n)]
    learnt = [lines(i, f"0:{-told.reward[i]}:0.1 ") for i in range(n)]
    what = f"Vowpal Wabbit SquareCB, {arms:,} arms, d = {d}"
    return {
        f"{what}, updates/s": rate(lambda i: bandit.learn(learnt[i]), n),
        f"{what}, predictions/s": rate(lambda i: bandit.predict(asked[i]), n),
    }


def by_category(n: int) -> Numbers:
    """The bandit that the learner keeps: rows of closed slates learnt, and fresh items judged for an answer."""
    stack, rng = Stack(), np.random.default_rng(3)
    keys = np.arange(1, 10_001, dtype=np.uint64)
    categories = np.repeat((20_000 + keys % CATEGORIES)[:, None], 4, axis=1)
    rows = stack.describe(keys, categories, np.full(keys.size, 1), np.full(keys.size, 1.0, np.float32))
    shown = rng.choice(rows, n)
    x = rng.normal(0, 1, (n, len(stack.feature_names))).astype(np.float32)
    chance, label = np.full(n, 0.1), (rng.random(n) < 0.1).astype(np.float32)
    ts, bandit = np.full(n, 1_767_225_600_000), stack.bandit
    learn = lambda i: bandit.learn(shown, x, chance, label, ts)  # noqa: E731
    judge = lambda i: bandit.judge(shown[:FRESH], x[:FRESH], chance[:FRESH], 0.1)  # noqa: E731
    learn(0)
    judge(0)
    return {
        f"the learner's own, {CATEGORIES} categories, places learnt/s": rate(learn, 1_000_000, n),
        f"the learner's own, answers of {FRESH} fresh items/s": rate(judge, 1_000_000),
    }


PEERS: dict[str, tuple[str, Callable[[int, int, int], Numbers]]] = {
    "MABWiser": ("mabwiser", mabwiser),
    "River": ("river", river),
    "Vowpal Wabbit": ("vowpalwabbit", vowpal_wabbit),
}
OURS: dict[str, tuple[Callable[[int], Bandit], Policy]] = {
    "headrace LinUCB": (Disjoint, Policy(UpperBounds())),
    "headrace hybrid LinUCB": (lambda d: Hybrid(d // 2, d - d // 2), Policy(UpperBounds())),
    "headrace linear Thompson": (Disjoint, Policy(NormalThompson())),
}


def measure(size: Size) -> Iterator[Numbers]:
    n = size.of(20_000, 1_000)
    for run in range(size.runs):
        numbers: dict[str, Any] = by_category(size.of(4_000, 400))
        for arms, d in SHAPES:
            for name, (make, policy) in OURS.items():
                numbers |= ours(name, make, policy, arms, d, n)
            for name, (package, peer) in PEERS.items():
                if importlib.util.find_spec(package) is None:
                    if run == 0:
                        print(f"{name} is left out: {sys.executable} -m pip install {package}", file=sys.stderr)
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # peers' own
                    numbers |= peer(arms, d, n)
        yield numbers


if __name__ == "__main__":
    run_alone(__doc__, measure)
