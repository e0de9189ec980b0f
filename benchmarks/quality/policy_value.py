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

from benchmarks.harness.sections import build_parser, print_section
from benchmarks.quality.exploration_value import K, ShopExperiment
from replay.simulation.simulator import position_bias
from stream.config import PolicyName

EXPLORATION_RATE = 0.1  # serve.exploration_rate
NO_EXPLORATION = "none"  # nothing is explored
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
COLUMNS = ("clicks per 1,000 places", "in the last fifth of the rounds", "of the places explored")


def measure_shop(name: str, rounds: int, seed: int, appeal: float = 0.0) -> list[float]:
    """One shop's numbers, as in `COLUMNS`."""
    expected, explored = np.zeros((rounds, K)), np.zeros((rounds, K), np.bool_)
    policy: PolicyName = next((policy for policy in POLICIES if policy == name), "thompson")
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        shop = ShopExperiment(
            Path(folder), 0.0 if name == NO_EXPLORATION else EXPLORATION_RATE, rounds, seed, policy, appeal
        )
        for i in range(rounds):
            visit = shop.run_round(i / rounds)
            items = [shop.item_rows[item.item_id] for item in visit.slate.response.items]
            expected[i, : len(items)] = shop.loop.simulator.click_probability[visit.shopper, items] * position_bias(
                len(items)
            )
            explored[i, : len(items)] = visit.slate.filled_slate.selection.explored
        shop.loop.close()
    explored_mean = float(expected[explored].mean()) if explored.any() else float("nan")
    return [1e3 * float(expected.mean()), 1e3 * float(expected[-rounds // 5 :].mean()), 1e3 * explored_mean]


def measure_all(rounds: int, seeds: int, appeal: float, processes: int) -> dict[str, np.ndarray]:
    """Of each policy (seeds, columns) numbers."""
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
        f"What is explored weighed by each `serve.policy`, in the shops of `benchmarks.quality.exploration_value`, {rounds:,} slates of"
        f" ten and `serve.exploration_rate` at its default of {EXPLORATION_RATE}. Clicks are those that the shoppers' true tastes let one"
        " expect of what was shown: in all places, in those of the last fifth of the rounds, and in those given by"
        f" chance to another item than the next best. Mean of {seeds} seeds (least to greatest).", "",
        "A tenth of the places is explored at most, so shops differ more from seed to seed than from policy to policy:"
        " the first two columns do not tell policies apart. The last one is what a policy decides by itself.", "",
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
    parser.add_argument("--appeal", type=float, default=0.0, help="how categories differ for all shoppers, in log-odds")
    options: Any = parser.parse_args()
    rounds, seeds = (200, 1) if options.quick else (options.rounds, options.seeds)
    results = measure_all(rounds, seeds, options.appeal, options.processes)
    means = {
        f"{name}, {column}": float(values.mean())
        for name, rows in results.items()
        for column, values in zip(COLUMNS, rows.T, strict=True)
    }
    print_section(
        options, section_title(options.appeal), format_markdown(results, rounds, seeds, options.appeal), means
    )


if __name__ == "__main__":
    main()
