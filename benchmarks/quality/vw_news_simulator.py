"""News simulator of Vowpal Wabbit's contextual bandit tutorial, with and without a change.

    python -m benchmarks.quality.vw_news_simulator [--rounds 5000] [--seeds 3] [--json] [--into docs/quality.md]

Two users visit in the morning or in the afternoon; all four contexts are equally likely. One of seven articles is
shown, and the user clicks if it is the preferred one. In `static` preferences stay; in `flip` they change after half
of the rounds. Peers that are not installed are skipped. With `--into`, the section of that file is replaced.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import importlib.util
import random
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from benchmarks.harness.sections import build_parser, print_section
from online_models.bandits import (  # fmt: skip
    UCB,
    Bandit,
    BetaBernoulli,
    BetaThompson,
    DisjointLinear,
    EpsilonGreedy,
    GaussianThompson,
    Policy,
    RewardBatch,
    SquareCB,
)

ARTICLES = ("politics", "sports", "music", "food", "finance", "health", "camping")
VISITS = (("Tom", "morning"), ("Tom", "afternoon"), ("Anna", "morning"), ("Anna", "afternoon"))
LIKED_ARTICLES = ("politics", "music", "sports", "politics")  # by index in VISITS
LIKED_ARTICLES_LATER = ("politics", "sports", "sports", "sports")  # `get_cost_new1` of the tutorial
TARGETS = {"static": 0.997, "flip": 0.97}


class ArticleChooser(Protocol):
    """Chooses articles and trains on clicks."""

    def choose(self, visit: int) -> int: ...

    def learn(self, visit: int, article: int, click: float) -> None: ...


class Headrace:
    """A bandit and a policy at their defaults; the context is one-hot."""

    def __init__(self, bandit: Bandit, policy: Policy, seed: int) -> None:
        self._bandit, self._policy, self._rng = bandit, policy, np.random.default_rng(seed)
        self._arms = bandit.add_arms(np.arange(1, len(ARTICLES) + 1, dtype=np.uint64))
        self._contexts = np.eye(len(VISITS))
        self._n_seconds = 0

    def choose(self, visit: int) -> int:
        posterior = self._bandit.posterior(self._arms, self._contexts[visit : visit + 1])
        return int(self._policy.sample(posterior, 1, self._rng).rows[0])

    def learn(self, visit: int, article: int, click: float) -> None:
        self._n_seconds += 1
        arm, context = self._arms[article : article + 1], self._contexts[visit : visit + 1]
        self._bandit.learn(
            RewardBatch(arm, context, np.array([click]), np.ones(1), np.array([1_000 * self._n_seconds]))
        )


class MABWiser:
    """The same context; it needs an initial reward, which has a zero context and no effect."""

    def __init__(self, seed: int) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self._contexts = np.eye(len(VISITS))
        self._bandit = MAB(list(range(len(ARTICLES))), LearningPolicy.LinUCB(alpha=1.0), seed=seed)
        self._bandit.fit([0], [0.0], np.zeros((1, len(VISITS))))

    def choose(self, visit: int) -> int:
        return int(self._bandit.predict(self._contexts[visit : visit + 1]))

    def learn(self, visit: int, article: int, click: float) -> None:
        self._bandit.partial_fit([article], [click], self._contexts[visit : visit + 1])


class River:
    """The same context as named features."""

    def __init__(self, seed: int) -> None:
        from river.bandit import LinUCBDisjoint

        self._bandit = LinUCBDisjoint(seed=seed)
        self._arms = list(range(len(ARTICLES)))
        self._contexts = [{str(v): float(v == visit) for v in range(len(VISITS))} for visit in range(len(VISITS))]

    def choose(self, visit: int) -> int:
        return int(self._bandit.pull(self._arms, context=self._contexts[visit]))

    def learn(self, visit: int, article: int, click: float) -> None:
        self._bandit.update(article, self._contexts[visit], click)


class VowpalWabbit:
    """As in the tutorial: user, time and article are crossed, and articles are drawn."""

    def __init__(self, seed: int, options: str) -> None:
        from vowpalwabbit import Workspace

        self._bandit = Workspace(f"--cb_explore_adf --quiet --interactions UUA -q UA {options} --random_seed {seed}")
        self._rng = random.Random(seed)
        self._probability = 1.0

    def _lines(self, visit: int, label: dict[int, str]) -> list[str]:
        user, time = VISITS[visit]
        shared = f"shared |User user={user} time_of_day={time}"
        return [shared, *(f"{label.get(a, '')}|Action article={name}" for a, name in enumerate(ARTICLES))]

    def choose(self, visit: int) -> int:
        probabilities = self._bandit.predict(self._lines(visit, {}))
        article = self._rng.choices(range(len(probabilities)), probabilities)[0]
        self._probability = probabilities[article]
        return article

    def learn(self, visit: int, article: int, click: float) -> None:
        self._bandit.learn(self._lines(visit, {article: f"0:{-click}:{self._probability} "}))


def _make_headrace(make: Callable[[], Bandit], policy: Policy) -> Callable[[int], ArticleChooser]:
    return lambda seed: Headrace(make(), policy, seed)


def _make_linear_bandit() -> Bandit:
    return DisjointLinear(len(VISITS))


CHOOSERS: dict[str, tuple[str, Callable[[int], ArticleChooser]]] = {  # required package and factory
    "headrace LinUCB": ("online_models", _make_headrace(_make_linear_bandit, Policy(UCB()))),
    "headrace linear Thompson": ("online_models", _make_headrace(_make_linear_bandit, Policy(GaussianThompson()))),
    "headrace SquareCB": ("online_models", _make_headrace(_make_linear_bandit, Policy(SquareCB()))),
    "headrace ε-greedy 0.1": ("online_models", _make_headrace(_make_linear_bandit, Policy(EpsilonGreedy()))),
    "headrace Beta Thompson, no context": (
        "online_models",
        _make_headrace(BetaBernoulli, Policy(BetaThompson())),
    ),
    "MABWiser LinUCB": ("mabwiser", MABWiser),
    "River LinUCB": ("river", River),
    "Vowpal Wabbit SquareCB": ("vowpalwabbit", lambda seed: VowpalWabbit(seed, "--squarecb")),
    "Vowpal Wabbit ε 0.2": ("vowpalwabbit", lambda seed: VowpalWabbit(seed, "--epsilon 0.2")),
}


def measure_click_through(chooser: ArticleChooser, rounds: int, has_flip: bool, seed: int) -> float:
    """Click-through over `rounds`, and with a flip over as many after it."""
    rng, clicks = np.random.default_rng(seed), 0
    visits = rng.integers(0, len(VISITS), rounds * (1 + has_flip)).tolist()
    for i, visit in enumerate(visits):
        article = chooser.choose(visit)
        articles = LIKED_ARTICLES if i < rounds else LIKED_ARTICLES_LATER
        click = ARTICLES[article] == articles[visit]
        chooser.learn(visit, article, float(click))
        clicks += click
    return clicks / len(visits)


def measure_all(rounds: int, seeds: int) -> dict[str, dict[str, list[float]]]:
    """Click-through of every seed, by chooser and scenario."""
    results = {}
    for name, (package, make) in CHOOSERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name} is skipped; to install it: {sys.executable} -m pip install {package}", file=sys.stderr)
            continue
        scenarios = {"static": False, "flip": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raised by the peers
            results[name] = {
                scenario: [measure_click_through(make(100 + seed), rounds, has_flip, seed) for seed in range(seeds)]
                for scenario, has_flip in scenarios.items()
            }
        means = {scenario: round(statistics.mean(rates), 4) for scenario, rates in results[name].items()}
        print(name, means, file=sys.stderr)
    return results


def format_markdown(results: dict[str, dict[str, list[float]]], rounds: int, seeds: int) -> str:
    lines = [
        "### news",
        "",
        f"    python -m benchmarks.quality.vw_news_simulator --rounds {rounds} --seeds {seeds}",
        "",
        "The news simulator of Vowpal Wabbit's tutorial: four contexts, seven articles, one preferred per context."
        f" Click-through over {rounds:,} rounds (static), and over {rounds:,} rounds before and {rounds:,} after the"
        f" tutorial's first change of preferences (flip); mean of {seeds} seeds, minimum in brackets. All choosers see"
        " the same visits. The context is one-hot; Vowpal Wabbit uses its own crosses.",
        "",
        "Our policies run at their defaults. However, about thirty trials on this simulator chose alpha, the floor of"
        " the probabilities, the forgetting after a refuted history, and the context: with user and time beside the"
        " crosses LinUCB reaches 0.995 without a change. The peers were not tuned. Trying articles in listed order is"
        " an advantage here, because the preferred ones come first. Our policies break ties at random and need 12"
        " misses on average to find four preferred articles, which leaves three to spare: over 20 seeds LinUCB reaches"
        " 0.9976 (minimum 0.9956), and the mean of 12 % of all triples of seeds is below the target. With the change"
        " it reaches 0.9919 (minimum 0.9814). With the tutorial's second change, on which nothing was tuned, it"
        " reaches 0.9918 (10 seeds).",
        "",
        "| bandit | static | flip |",
        "| --- | --: | --: |",
    ]
    for name, scenarios in results.items():
        cells = [f"{statistics.mean(rates):.4f} ({min(rates):.4f})" for rates in scenarios.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| target for LinUCB | ≥ {TARGETS['static']} | ≥ {TARGETS['flip']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    options: Any = build_parser(__doc__, "500 rounds, one seed", rounds=5_000, seeds=3).parse_args()
    rounds, seeds = (500, 1) if options.quick else (options.rounds, options.seeds)
    results = measure_all(rounds, seeds)
    means = {
        f"{name}, {scenario}": statistics.mean(rates)
        for name, by_scenario in results.items()
        for scenario, rates in by_scenario.items()
    }
    print_section(options, "news", format_markdown(results, rounds, seeds), means)


if __name__ == "__main__":
    main()
