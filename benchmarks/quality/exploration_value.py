"""Feedback loop with and without exploration: click-through and starved items.

    python -m benchmarks.quality.exploration_value [--rounds 100000] [--json]
        [--into docs/quality.md] [--plot docs/images/feedback.svg]

The live stream, learn and serve code runs in one process with simulated shoppers of known preferences. A quarter of
the catalog exists from the start; the rest is added evenly over the first four fifths of the rounds. Few shoppers
search, so that most training data comes from slates. A round is a slate of ten. Both shops have the same items and
shoppers and run in parallel, one process each.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.line_charts import Panel, draw_chart
from benchmarks.harness.sections import build_parser, print_section
from replay.simulation.closed_loop import ClosedLoop, Visit
from replay.simulation.simulator import make_population, make_shop, position_bias
from stream.config import PolicyName, ServeSettings

K = 10
EXPLORATION_RATES = {"off": 0.0, "on": 0.1}  # serve.exploration_rate; 0.1 is the default
_START_MS = 1_767_225_600_000
_N_BLOCKS = 50  # points of a curve
_SHOPPERS_PER_ROUND, _ITEMS_PER_ROUND = 0.03, 0.04
_SEARCH_PROBABILITY = 0.02
_STARVED_BELOW = 20  # impressions, too few to estimate the click probability of an item
_BEST_EVERY = 10  # rounds between two computations of the best slate


@dataclass(frozen=True, slots=True)
class LoopResult:
    """Results of one shop by block of rounds, (blocks,) each."""

    rounds: np.ndarray  # at the end of the block
    click_through: np.ndarray  # clicks per slate item
    best_click_through: np.ndarray  # of the best slates
    starved_share: np.ndarray  # share of the items older than a block with too few impressions
    shown_share: np.ndarray  # share of the available items shown in this block
    popular_starved_share: float  # at the end, of the most liked tenth of all items
    newcomer_share: float  # share of later items in the slates of the last fifth


class ShopExperiment:
    """One simulated shop with its counters."""

    def __init__(
        self,
        folder: Path,
        exploration_rate: float,
        rounds: int,
        seed: int,
        policy: PolicyName = "thompson",
        appeal: float = 0.0,
    ) -> None:
        items, shoppers = max(200, int(rounds * _ITEMS_PER_ROUND)), max(100, int(rounds * _SHOPPERS_PER_ROUND))
        rng = np.random.default_rng(seed)
        self._shop, population = make_shop(items, _START_MS, rng), make_population(shoppers, rng, appeal)
        serve = ServeSettings(exploration_rate=exploration_rate, policy=policy, candidates=200, seed=seed + 1)
        self.loop = ClosedLoop(
            folder, self._shop, population, _START_MS, serve, seed, search_probability=_SEARCH_PROBABILITY
        )
        self.appeal = population.activity @ population.click_probabilities(self._shop)
        self.times_shown = np.zeros(items, np.int64)
        self.n_available = 0
        self.n_initial = items // 4
        self.item_rows = {name: j for j, name in enumerate(self._shop.item_ids)}
        self._add_items(self.n_initial)

    def _add_items(self, end: int) -> None:
        new = [record | {"created_ts": self.loop.system.clock.now_ms()} for record in self._shop.records()]
        self.loop.put_items(new[self.n_available : end])
        self.n_available = end

    def run_round(self, progress: float) -> Visit:
        """Run one round; `progress` is the share of the rounds that are done."""
        n_items = self.times_shown.size
        n_due = min(n_items, self.n_initial + int((n_items - self.n_initial) * progress / 0.8))
        if n_due >= self.n_available + 10:
            self._add_items(n_due)
        visit = self.loop.visit(K)
        np.add.at(self.times_shown, [self.item_rows[item.item_id] for item in visit.slate.response.items], 1)
        return visit

    def best_click_through(self, shopper: int) -> float:
        """Expected clicks per item of the best slate."""
        simulator, n = self.loop.simulator, self.n_available
        available = simulator.click_probability[shopper, :n][~simulator.interacted[shopper, :n]]
        top_probabilities = np.sort(available)[::-1][:K]
        return float(top_probabilities @ position_bias(top_probabilities.size)) / K


def run_experiment(exploration_rate: float, rounds: int, seed: int = 1) -> LoopResult:
    """Run one shop."""
    size = max(1, rounds // _N_BLOCKS)
    rows, n_available_before = [], 0
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        shop = ShopExperiment(Path(folder), exploration_rate, rounds, seed)
        late_shown = np.zeros_like(shop.times_shown)
        for begin in range(0, rounds, size):
            before, clicks, best = shop.times_shown.copy(), 0, []
            for i in range(begin, min(rounds, begin + size)):
                visit = shop.run_round(i / rounds)
                clicks += len(visit.clicked_positions)
                if i % _BEST_EVERY == 0:
                    best.append(shop.best_click_through(visit.shopper))
            newly_shown = shop.times_shown - before
            starved = shop.times_shown[: n_available_before or shop.n_available] < _STARVED_BELOW
            shown_share = (newly_shown > 0).sum() / shop.n_available
            rows.append((i + 1, clicks / newly_shown.sum(), np.mean(best), starved.mean(), shown_share))
            late_shown += newly_shown if begin >= 0.8 * rounds else 0
            n_available_before = shop.n_available
        shop.loop.close()
    popular_items = np.argsort(-shop.appeal)[: max(1, shop.times_shown.size // 10)]
    block_rounds, click_through, best_click_through, starved_share, shown_share = np.array(rows).T
    return LoopResult(
        block_rounds, click_through, best_click_through, starved_share, shown_share,
        float((shop.times_shown[popular_items] < _STARVED_BELOW).mean()),
        float(late_shown[shop.n_initial :].sum() / late_shown.sum()),
    )  # fmt: skip


def run_experiments(rounds: int) -> dict[str, LoopResult]:
    """Run one shop per exploration rate, in parallel."""
    with multiprocessing.get_context("spawn").Pool(len(EXPLORATION_RATES)) as pool:
        results = pool.starmap(run_experiment, [(rate, rounds) for rate in EXPLORATION_RATES.values()])
    return dict(zip(EXPLORATION_RATES, results, strict=True))


def summarize(results: dict[str, LoopResult]) -> dict[str, float]:
    """Numbers of the table; clicks are those of the last fifth of the rounds."""
    summary = {}
    for name, result in results.items():
        last = slice(-max(1, len(result.rounds) // 5), None)
        summary[f"{name}: click-through"] = float(result.click_through[last].mean())
        summary[f"{name}: share of the best slates' click-through"] = float(
            (result.click_through[last] / result.best_click_through[last]).mean()
        )
        summary[f"{name}: starved items"] = float(result.starved_share[-1])
        summary[f"{name}: starved items of the most liked tenth"] = result.popular_starved_share
        summary[f"{name}: items shown in the last block"] = float(result.shown_share[-1])
        summary[f"{name}: slate items that were added later"] = result.newcomer_share
    return summary


def format_markdown(results: dict[str, LoopResult], rounds: int) -> str:
    summary = summarize(results)
    lines = [
        "### exploration value", "", f"    python -m benchmarks.quality.exploration_value --rounds {rounds}", "",
        "Without exploration the model trains only on what it already recommends. The live stream, learn and serve code"
        f" with simulated shoppers, {rounds:,} slates of ten, and `serve.exploration_rate` at 0 and at its default 0.1."
        f" A quarter of {max(200, int(rounds * _ITEMS_PER_ROUND)):,} items exists from the start; the rest is added"
        f" over the first four fifths of the rounds. An item with fewer than {_STARVED_BELOW} impressions is starved."
        " The best slates use the true click probabilities. Clicks are those of the last fifth of the rounds.", "",
        "![Click-through and starved items over the rounds, with exploration off and on](images/feedback.svg)", "",
        "| | exploration off | on |", "| --- | --: | --: |",
    ]  # fmt: skip
    for metric in dict.fromkeys(name.partition(": ")[2] for name in summary):
        digits = ".4f" if metric == "click-through" else ".1%"
        cells = [format(summary[f"{name}: {metric}"], digits) for name in EXPLORATION_RATES]
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_plot(results: dict[str, LoopResult]) -> str:
    rounds = results["off"].rounds
    panels = [
        Panel("clicks per slate item", rounds, {name: result.click_through for name, result in results.items()}),
        Panel("share of starved items", rounds, {name: result.starved_share for name, result in results.items()}),
    ]
    return draw_chart("The feedback loop with exploration off and on", "rounds", panels)


def main() -> None:
    parser = build_parser(__doc__, "500 rounds", rounds=100_000)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options: Any = parser.parse_args()
    rounds = 500 if options.quick else options.rounds
    results = run_experiments(rounds)
    if options.plot:
        options.plot.write_text(draw_plot(results))
    print_section(options, "exploration value", format_markdown(results, rounds), summarize(results))


if __name__ == "__main__":
    main()
