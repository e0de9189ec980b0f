"""Run one benchmark several times and print the median of each number as a table or JSON."""

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
Numbers = dict[str, float]  # by name, which ends with the unit


@dataclass(frozen=True, slots=True)
class RunSize:
    """Number of runs, and their size: full, or quick to see that the benchmark works."""

    quick: bool
    runs: int

    def choose(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def run_benchmark(doc: str | None, measure: Callable[[RunSize], Iterator[Numbers]], runs: int = RUNS) -> None:
    """Run `measure`, which yields the numbers of `size.runs` runs, and print the results."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="one small run, to see that it works")
    parser.add_argument("--runs", type=int, default=runs, help=f"number of runs (default {runs})")
    parser.add_argument("--json", action="store_true", help="print the numbers of all runs as JSON")
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
    table.add_column("number", no_wrap=True)
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, numbers in results.items():
        summary = (statistics.median(numbers), min(numbers), max(numbers))
        table.add_row(name, *(format_number(number) for number in summary))
    return table


def format_number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def latency_quantiles(name: str, latencies_ms: list[float]) -> Numbers:
    """Median and 99th percentile of latencies."""
    return {f"{name}, p{share} ms": float(np.quantile(latencies_ms, share / 100)) for share in (50, 99)}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        yield Path(folder)
