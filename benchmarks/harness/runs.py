"""A benchmark run by itself: so many runs, the median of each number, as a table or as JSON."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

RUNS = 5
Numbers = dict[str, float]  # by name, the unit in the name


@dataclass(frozen=True, slots=True)
class RunSize:
    """How much a run does: enough to be believed, or just enough to see that it works."""

    quick: bool
    runs: int

    def choose(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def run_benchmark(doc: str | None, measure: Callable[[RunSize], Iterator[Numbers]], runs: int = RUNS) -> None:
    """`measure` yields the numbers of `size.runs` runs: what it sets up once, all of them share."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="one small run: shows that it works, says little")
    parser.add_argument("--runs", type=int, default=runs, help=f"runs of which the median counts (default {runs})")
    parser.add_argument("--json", action="store_true", help="print every run's numbers as JSON")
    arguments = parser.parse_args()
    size = RunSize(arguments.quick, 1 if arguments.quick else arguments.runs)
    results: dict[str, list[float]] = {}
    for run, numbers in enumerate(measure(size), 1):
        print(f"run {run} of {size.runs}", file=sys.stderr)
        for name, number in numbers.items():
            results.setdefault(name, []).append(number)
    if arguments.json:
        print(json.dumps(results))
    else:
        Console(width=None if sys.stdout.isatty() else 110).print(build_table(results))


def build_table(results: dict[str, list[float]]) -> Table:
    table = Table()
    table.add_column("what", no_wrap=True)
    for column in ("median", "least", "greatest"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, numbers in results.items():
        table.add_row(
            name, *(format_number(number) for number in (statistics.median(numbers), min(numbers), max(numbers)))
        )
    return table


def format_number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def latency_quantiles(name: str, latencies_ms: list[float]) -> Numbers:
    """p50 and p99 of many times."""
    return {f"{name}, p{share} ms": float(np.quantile(latencies_ms, share / 100)) for share in (50, 99)}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        yield Path(folder)
