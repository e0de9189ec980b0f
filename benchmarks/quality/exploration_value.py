"""The feedback loop with exploration off and on: how the long tail starves, what it costs, and what is regained.

    python -m benchmarks.quality.exploration_value [--rounds 100000] [--json] [--into docs/quality.md] [--plot docs/images/feedback.svg]

The live stream worker, learner and recommender in one process, before simulated shoppers whose tastes are known. A
quarter of the catalogue is there from the beginning, the rest comes evenly over the first four fifths of the rounds;
few shoppers search by themselves, so that most of what is learnt is learnt from what was shown. A round is a slate of
ten. Both shops have the same items and shoppers, and run beside each other, a process each.
"""

# ruff: noqa: E402 - one core must be asked for before numpy is loaded
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import multiprocessing
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.line_charts import Panel, drawn
from benchmarks.harness.sections import asked, tell
from replay.simulation.closed_loop import ClosedLoop, Visit
from replay.simulation.simulator import looks, make_crowd, make_shop
from stream.config import PolicyName, Serve

K = 10
SHARES = {"off": 0.0, "on": 0.1}  # serve.explore; 0.1 is the default
_NOW = 1_767_225_600_000
_BLOCKS = 50  # points of a curve
_SHOPPERS_PER_ROUND, _ITEMS_PER_ROUND = 0.03, 0.04
_SEARCHING = 0.02
_TOO_FEW = 20  # places from which nobody can tell whether an item is liked
_JUDGED_EVERY = 10  # rounds of which the best slate is reckoned


@dataclass(frozen=True, slots=True)
class Story:
    """What came of one shop, block by block, (blocks,) each."""

    rounds: np.ndarray  # so many have passed
    click_through: np.ndarray  # clicks per place
    best: np.ndarray  # what the best slates would have earned
    starved: np.ndarray  # share of the items that are there for a block or longer, shown in too few places
    alive: np.ndarray  # share of the items that are there, shown in this block
    good_starved: float  # at the end, of the tenth of all items that the crowd likes best
    newcomers: float  # share of the places of the last fifth that went to items that came later


class Shop:
    """One shop as it goes on, and what is counted of it."""

    def __init__(
        self, folder: Path, share: float, rounds: int, seed: int, policy: PolicyName = "thompson", appeal: float = 0.0
    ) -> None:
        items, shoppers = max(200, int(rounds * _ITEMS_PER_ROUND)), max(100, int(rounds * _SHOPPERS_PER_ROUND))
        rng = np.random.default_rng(seed)
        self._shop, crowd = make_shop(items, _NOW, rng), make_crowd(shoppers, rng, appeal)
        serve = Serve(explore=share, policy=policy, candidates=200, seed=seed + 1)
        self.loop = ClosedLoop(folder, self._shop, crowd, _NOW, serve, seed, searching=_SEARCHING)
        self.appeal = crowd.activity @ crowd.chances(self._shop)
        self.shown = np.zeros(items, np.int64)
        self.there = 0
        self.first = items // 4
        self.place = {name: j for j, name in enumerate(self._shop.names)}
        self._arrive(self.first)

    def _arrive(self, until: int) -> None:
        new = [record | {"created_ts": self.loop.rig.clock.now_ms()} for record in self._shop.records()]
        self.loop.put(new[self.there : until])
        self.there = until

    def round(self, done: float) -> Visit:
        """One slate, when so much of the story is told."""
        due = min(self.shown.size, self.first + int((self.shown.size - self.first) * done / 0.8))
        if due >= self.there + 10:
            self._arrive(due)
        visit = self.loop.visit(K)
        np.add.at(self.shown, [self.place[item.item_id] for item in visit.slate.answer.items], 1)
        return visit

    def best(self, shopper: int) -> float:
        """Clicks that the best slate would earn per place."""
        open_to = self.loop.simulator.chance[shopper, : self.there][~self.loop.simulator.met[shopper, : self.there]]
        chances = np.sort(open_to)[::-1][:K]
        return float(chances @ looks(chances.size)) / K


def told(share: float, rounds: int, seed: int = 1) -> Story:
    """The story of one shop."""
    size = max(1, rounds // _BLOCKS)
    rows, there_before = [], 0
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        shop = Shop(Path(folder), share, rounds, seed)
        late = np.zeros_like(shop.shown)
        for begin in range(0, rounds, size):
            before, clicks, best = shop.shown.copy(), 0, []
            for i in range(begin, min(rounds, begin + size)):
                visit = shop.round(i / rounds)
                clicks += len(visit.clicks)
                if i % _JUDGED_EVERY == 0:
                    best.append(shop.best(visit.shopper))
            came = shop.shown - before
            starved = shop.shown[: there_before or shop.there] < _TOO_FEW
            rows.append((i + 1, clicks / came.sum(), np.mean(best), starved.mean(), (came > 0).sum() / shop.there))
            late += came if begin >= 0.8 * rounds else 0
            there_before = shop.there
        shop.loop.close()
    good = np.argsort(-shop.appeal)[: max(1, shop.shown.size // 10)]
    curves = np.array(rows).T
    return Story(*curves, float((shop.shown[good] < _TOO_FEW).mean()), float(late[shop.first :].sum() / late.sum()))


def stories(rounds: int) -> dict[str, Story]:
    with multiprocessing.get_context("spawn").Pool(len(SHARES)) as pool:
        return dict(zip(SHARES, pool.starmap(told, [(share, rounds) for share in SHARES.values()]), strict=True))


def numbers(found: dict[str, Story]) -> dict[str, float]:
    """What the table tells, by name; clicks are of the last fifth of the rounds."""
    of = {}
    for name, story in found.items():
        last = slice(-max(1, len(story.rounds) // 5), None)
        of[f"{name}: click-through"] = float(story.click_through[last].mean())
        of[f"{name}: of what the best slates would earn"] = float((story.click_through[last] / story.best[last]).mean())
        of[f"{name}: items starved"] = float(story.starved[-1])
        of[f"{name}: of the tenth best liked, starved"] = story.good_starved
        of[f"{name}: items shown in the last block"] = float(story.alive[-1])
        of[f"{name}: places of items that came later"] = story.newcomers
    return of


def markdown(found: dict[str, Story], rounds: int) -> str:
    told_of = numbers(found)
    lines = [
        "### feedback", "", f"    python -m benchmarks.quality.exploration_value --rounds {rounds}", "",
        "A loop that shows only what it believes in learns only of what it shows. The live stream worker, learner and"
        f" recommender before simulated shoppers, {rounds:,} slates of ten, with `serve.explore` at 0 and at its"
        f" default of 0.1. A quarter of {max(200, int(rounds * _ITEMS_PER_ROUND)):,} items is there from the beginning,"
        " the rest comes over the first four fifths of the rounds. An item is starved if it was shown in fewer than"
        f" {_TOO_FEW} places; the best slates are those of one who knows all tastes. Clicks are of the last fifth of"
        " the rounds.", "",
        "![Click-through and starved items over the rounds, with exploration off and on](images/feedback.svg)", "",
        "| | exploration off | on |", "| --- | --: | --: |",
    ]  # fmt: skip
    for what in dict.fromkeys(name.partition(": ")[2] for name in told_of):
        digits = ".4f" if what == "click-through" else ".1%"
        lines.append(f"| {what} | " + " | ".join(format(told_of[f"{name}: {what}"], digits) for name in SHARES) + " |")
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Story]) -> str:
    rounds = found["off"].rounds
    panels = [
        Panel("clicks per place", rounds, {name: story.click_through for name, story in found.items()}),
        Panel("share of items starved", rounds, {name: story.starved for name, story in found.items()}),
    ]
    return drawn("The feedback loop with exploration off and on", "rounds", panels)


def main() -> None:
    parser = asked(__doc__, "500 rounds", rounds=100_000)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options: Any = parser.parse_args()
    rounds = 500 if options.quick else options.rounds
    found = stories(rounds)
    if options.plot:
        options.plot.write_text(plot(found))
    tell(options, "feedback", markdown(found, rounds), numbers(found))


if __name__ == "__main__":
    main()
