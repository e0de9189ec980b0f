"""Expected clicks of each `serve.policy` in the same simulated shops.

    python -m benchmarks.quality.policy_value [--rounds 4000] [--seeds 8] [--appeal 0] [--json] [--into docs/quality.md]

The shops are those of `benchmarks.quality.exploration_value`; with `--appeal 0.8` all shoppers prefer some categories.
Slates are evaluated by true click probabilities, not by random clicks. Runs diverge after the first click, so that two
seeds of one policy differ as well.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import multiprocessing
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.harness.sections import build_parser, print_section
from benchmarks.quality.exploration_value import K, ShopExperiment
from replay.simulation.simulator import position_bias
from stream.config import PolicyName

EXPLORATION_RATE = 0.1  # serve.exploration_rate
NO_EXPLORATION = "none"
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
COLUMNS = ("clicks per 1,000 slate items", "last fifth of the rounds", "explored slate items")


def measure_shop(name: str, rounds: int, seed: int, appeal: float = 0.0) -> list[float]:
    """Numbers of one shop, in the order of `COLUMNS`."""
    expected, explored = np.zeros((rounds, K)), np.zeros((rounds, K), np.bool_)
    policy: PolicyName = next((policy for policy in POLICIES if policy == name), "thompson")
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        rate = 0.0 if name == NO_EXPLORATION else EXPLORATION_RATE
        shop = ShopExperiment(Path(folder), rate, rounds, seed, policy, appeal)
        for i in range(rounds):
            visit = shop.run_round(i / rounds)
            items = [shop.item_rows[item.item_id] for item in visit.slate.response.items]
            probability = shop.loop.simulator.click_probability[visit.shopper, items]
            expected[i, : len(items)] = probability * position_bias(len(items))
            explored[i, : len(items)] = visit.slate.filled_slate.selection.explored
        shop.loop.close()
    explored_mean = float(expected[explored].mean()) if explored.any() else float("nan")
    return [1e3 * float(expected.mean()), 1e3 * float(expected[-rounds // 5 :].mean()), 1e3 * explored_mean]


def measure_all(rounds: int, seeds: int, appeal: float, processes: int) -> dict[str, np.ndarray]:
    """Numbers by policy, (seeds, columns) float64."""
    names = (NO_EXPLORATION, *POLICIES)
    runs = [(name, rounds, 1 + seed, appeal) for name in names for seed in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        rows = np.array(pool.starmap(measure_shop, runs, chunksize=1))
    return dict(zip(names, rows.reshape(len(names), seeds, len(COLUMNS)), strict=True))


def section_title(appeal: float) -> str:
    return f"policies, categories {appeal:g} apart" if appeal else "policies"


def format_markdown(results: dict[str, np.ndarray], rounds: int, seeds: int, appeal: float) -> str:
    option = f" --appeal {appeal:g}" if appeal else ""
    lines = [
        f"### {section_title(appeal)}", "",
        f"    python -m benchmarks.quality.policy_value --rounds {rounds} --seeds {seeds}{option}", "",
        "Exploration by each `serve.policy` in the shops of `benchmarks.quality.exploration_value`:"
        f" {rounds:,} slates of ten, `serve.exploration_rate` at its default of {EXPLORATION_RATE}. The columns are"
        " expected clicks by the shoppers' true probabilities: of all slate items, of those in the last fifth of the"
        " rounds, and of explored items, which exploration put in place of the next best one."
        f" Mean of {seeds} seeds (min to max).", "",
        "At most a tenth of the slate items is explored, so shops differ more by seed than by policy: the first two"
        " columns do not separate the policies. The last one depends on the policy alone.", "",
        f"| policy | {' | '.join(COLUMNS)} |", f"| --- | {' | '.join(['--:'] * len(COLUMNS))} |",
    ]  # fmt: skip
    for name, rows in results.items():
        cells = [_format_cell(values) for values in rows.T]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _format_cell(values: np.ndarray) -> str:
    return "–" if np.isnan(values).any() else f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})"


def main() -> None:
    parser = build_parser(__doc__, "200 rounds, one seed", rounds=4_000, seeds=8)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--appeal", type=float, default=0.0, help="std of category appeal to all shoppers, log-odds")
    options: Any = parser.parse_args()
    rounds, seeds = (200, 1) if options.quick else (options.rounds, options.seeds)
    results = measure_all(rounds, seeds, options.appeal, options.processes)
    means = {
        f"{name}, {column}": float(values.mean())
        for name, rows in results.items()
        for column, values in zip(COLUMNS, rows.T, strict=True)
    }
    section = format_markdown(results, rounds, seeds, options.appeal)
    print_section(options, section_title(options.appeal), section, means)


if __name__ == "__main__":
    main()
