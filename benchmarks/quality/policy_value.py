"""What each policy of `serve.policy` earns: the same shops, each explored in its own way.

    python -m benchmarks.quality.policy_value [--rounds 4000] [--seeds 8] [--appeal 0] [--json] [--into docs/quality.md]

The shops of `benchmarks.quality.exploration_value`; with `--appeal 0.8` some categories are liked more than others by everybody. What
is shown is judged by the shoppers' true tastes, not by the clicks that chance made of them; but shops part ways with
the first click, so that two seeds of one policy differ as well.
"""

# ruff: noqa: E402 - one core must be asked for before numpy is loaded
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import multiprocessing
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.harness.sections import asked, tell
from benchmarks.quality.exploration_value import K, Shop
from replay.simulation.simulator import looks
from stream.config import PolicyName

SHARE = 0.1  # serve.explore
NONE = "none"  # nothing is explored
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
COLUMNS = ("clicks per 1,000 places", "in the last fifth of the rounds", "of the places explored")


def told(name: str, rounds: int, seed: int, appeal: float = 0.0) -> list[float]:
    """One shop's numbers, as in `COLUMNS`."""
    expected, explored = np.zeros((rounds, K)), np.zeros((rounds, K), np.bool_)
    policy: PolicyName = next((policy for policy in POLICIES if policy == name), "thompson")
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        shop = Shop(Path(folder), 0.0 if name == NONE else SHARE, rounds, seed, policy, appeal)
        for i in range(rounds):
            visit = shop.round(i / rounds)
            items = [shop.place[item.item_id] for item in visit.slate.answer.items]
            expected[i, : len(items)] = shop.loop.simulator.chance[visit.shopper, items] * looks(len(items))
            explored[i, : len(items)] = visit.slate.chosen.placed.explored
        shop.loop.close()
    drawn = float(expected[explored].mean()) if explored.any() else float("nan")
    return [1e3 * float(expected.mean()), 1e3 * float(expected[-rounds // 5 :].mean()), 1e3 * drawn]


def measured(rounds: int, seeds: int, appeal: float, processes: int) -> dict[str, np.ndarray]:
    """Of each policy (seeds, columns) numbers."""
    names = (NONE, *POLICIES)
    runs = [(name, rounds, 1 + seed, appeal) for name in names for seed in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        rows = np.array(pool.starmap(told, runs, chunksize=1))
    return dict(zip(names, rows.reshape(len(names), seeds, len(COLUMNS)), strict=True))


def section_of(appeal: float) -> str:
    return f"policies, categories {appeal:g} apart" if appeal else "policies"


def markdown(found: dict[str, np.ndarray], rounds: int, seeds: int, appeal: float) -> str:
    more = f" --appeal {appeal:g}" if appeal else ""
    lines = [
        f"### {section_of(appeal)}", "",
        f"    python -m benchmarks.quality.policy_value --rounds {rounds} --seeds {seeds}{more}", "",
        f"What is explored weighed by each `serve.policy`, in the shops of `benchmarks.quality.exploration_value`, {rounds:,} slates of"
        f" ten and `serve.explore` at its default of {SHARE}. Clicks are those that the shoppers' true tastes let one"
        " expect of what was shown: in all places, in those of the last fifth of the rounds, and in those given by"
        f" chance to another item than the next best. Mean of {seeds} seeds (least to greatest).", "",
        "A tenth of the places is explored at most, so shops differ more from seed to seed than from policy to policy:"
        " the first two columns do not tell policies apart. The last one is what a policy decides by itself.", "",
        f"| policy | {' | '.join(COLUMNS)} |", f"| --- | {' | '.join(['--:'] * len(COLUMNS))} |",
    ]  # fmt: skip
    for name, rows in found.items():
        cells = [_cell(of) for of in rows.T]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(of: np.ndarray) -> str:
    return "–" if np.isnan(of).any() else f"{of.mean():.1f} ({of.min():.1f} to {of.max():.1f})"


def main() -> None:
    parser = asked(__doc__, "200 rounds, one seed", rounds=4_000, seeds=8)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--appeal", type=float, default=0.0, help="how categories differ for all shoppers, in log-odds")
    options: Any = parser.parse_args()
    rounds, seeds = (200, 1) if options.quick else (options.rounds, options.seeds)
    found = measured(rounds, seeds, options.appeal, options.processes)
    means = {
        f"{name}, {column}": float(of.mean())
        for name, rows in found.items()
        for column, of in zip(COLUMNS, rows.T, strict=True)
    }
    tell(options, section_of(options.appeal), markdown(found, rounds, seeds, options.appeal), means)


if __name__ == "__main__":
    main()
