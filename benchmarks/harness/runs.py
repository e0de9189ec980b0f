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
class Size:
    """How much a run does: enough to be believed, or just enough to see that it works."""

    quick: bool
    runs: int

    def of(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole


def run_alone(doc: str | None, measure: Callable[[Size], Iterator[Numbers]], runs: int = RUNS) -> None:
    """`measure` yields the numbers of `size.runs` runs: what it sets up once, all of them share."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="one small run: shows that it works, says little")
    parser.add_argument("--runs", type=int, default=runs, help=f"runs of which the median counts (default {runs})")
    parser.add_argument("--json", action="store_true", help="print every run's numbers as JSON")
    arguments = parser.parse_args()
    size = Size(arguments.quick, 1 if arguments.quick else arguments.runs)
    found: dict[str, list[float]] = {}
    for run, numbers in enumerate(measure(size), 1):
        print(f"run {run} of {size.runs}", file=sys.stderr)
        for name, number in numbers.items():
            found.setdefault(name, []).append(number)
    if arguments.json:
        print(json.dumps(found))
    else:
        Console(width=None if sys.stdout.isatty() else 110).print(shown(found))


def shown(found: dict[str, list[float]]) -> Table:
    table = Table()
    table.add_column("what", no_wrap=True)
    for column in ("median", "least", "greatest"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, numbers in found.items():
        table.add_row(name, *(readable(number) for number in (statistics.median(numbers), min(numbers), max(numbers))))
    return table


def readable(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def quantiles(name: str, milliseconds: list[float]) -> Numbers:
    """p50 and p99 of many times."""
    return {f"{name}, p{share} ms": float(np.quantile(milliseconds, share / 100)) for share in (50, 99)}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        yield Path(folder)
