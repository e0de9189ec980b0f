"""All benchmarks in one go, beside the budgets of docs/design.md.

    python -m benchmarks [--only NAME …] [--quick] [--json FILE] [--markdown]

Each module runs in a process of its own, so that none finds another's memory or caches.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.runs import readable, shown

Found = dict[str, list[float]]  # the numbers of each run, by name
_PATIENCE = 3_600  # seconds that one module may take
_QUICK_PATIENCE = 300
_FIXED = ("speed.local_drivers", "quality.vw_news_simulator")  # subjects that decide themselves how often they run


@dataclass(frozen=True, slots=True)
class Budget:
    """What the design asks of a number."""

    subject: str
    name: str
    limit: float
    at_least: bool = False  # else at most

    def holds(self, number: float) -> bool:
        return number >= self.limit if self.at_least else number <= self.limit


SUBJECTS = {  # with what each is told when it is to be quick
    "speed.rankers": ("--examples", "20000", "--runs", "1"),
    "speed.stream_worker": ("--quick",),
    "speed.local_drivers": ("--quick",),
    "speed.broker_drivers": ("--quick",),
    "speed.stream_scaling": ("--quick",),
    "speed.ranking_latency": ("--quick",),
    "speed.http_load": ("--quick",),
    "speed.http_latency": ("--quick",),
    "speed.freshness": ("--quick",),
    "speed.checkpoints": ("--quick",),
    "speed.memory": ("--quick",),
    "speed.bandits": ("--quick",),
    "quality.vw_news_simulator": ("--quick",),
}
BUDGETS = (
    Budget("speed.rankers", "headrace linear, examples/s", 3_000_000, at_least=True),
    Budget("speed.rankers", "headrace fm, examples/s", 800_000, at_least=True),
    Budget("speed.rankers", "headrace deep, examples/s", 150_000, at_least=True),
    Budget("speed.stream_worker", "stream: clicks and views, events/s", 100_000, at_least=True),
    Budget("speed.stream_worker", "stream: slates of ten and clicks, events/s", 100_000, at_least=True),
    Budget("speed.local_drivers", "log: written and tailed, records/s", 150_000, at_least=True),
    Budget("speed.local_drivers", "store: put_many, users/s", 200_000, at_least=True),
    Budget("speed.local_drivers", "store: get, p99 ms", 0.4),
    Budget(
        "speed.broker_drivers", "stream: kafka-python and Redis, 1 a record, events/s of CPU", 50_000, at_least=True
    ),
    Budget("speed.broker_drivers", "stream: confluent and Redis, 1 a record, events/s of CPU", 90_000, at_least=True),
    Budget("speed.ranking_latency", "answer, 1,000,000 items, p50 ms", 2.5),
    Budget("speed.ranking_latency", "answer, 1,000,000 items, p99 ms", 6.0),
    Budget("speed.http_load", "http: 1,000 answers/s asked, p99 ms", 25.0),
    Budget("speed.http_load", "http: errors in them", 0),
    Budget("speed.http_load", "http: answers/s at p99 ≤ 25 ms", 1_000, at_least=True),
    Budget("speed.freshness", "freshness: click to count, p99 ms", 250.0),
    Budget("speed.freshness", "freshness: click to answer, p99 ms", 250.0),
    Budget("speed.checkpoints", "checkpoint: write and fsync, s", 2.0),
    Budget("speed.checkpoints", "checkpoint: learner stands still, ms", 100.0),
    Budget("speed.checkpoints", "kill -9 serve: answers again, s", 10.0),
    Budget("speed.checkpoints", "kill -9 learn: answers hold new events again, s", 10.0),
    Budget("speed.checkpoints", "kill -9 stream: answers hold new events again, s", 10.0),
    Budget("speed.memory", "memory: bytes per item row, counters, catalogue, vectors", 1_024),
    Budget("speed.memory", "memory: bytes per user record, 20 actions each", 1_024),
    Budget("speed.bandits", "headrace LinUCB, 34 arms, d = 20, predictions/s", 50_000, at_least=True),
    Budget("speed.bandits", "headrace LinUCB, 34 arms, d = 20, updates/s", 100_000, at_least=True),
    Budget("speed.bandits", "headrace LinUCB, 1,000 arms, d = 32, predictions/s", 5_000, at_least=True),
    Budget("quality.vw_news_simulator", "headrace LinUCB, static", 0.997, at_least=True),
    Budget("quality.vw_news_simulator", "headrace LinUCB, flip", 0.97, at_least=True),
)


def run(subject: str, quick: bool, runs: int | None = None) -> Found:
    """What a module prints as JSON; RuntimeError if it failed."""
    words = [sys.executable, "-m", f"benchmarks.{subject}", "--json", *(SUBJECTS[subject] if quick else ())]
    if runs and subject not in _FIXED:
        words += ["--runs", str(runs)]
    with tempfile.TemporaryFile() as told:
        patience = _QUICK_PATIENCE if quick else _PATIENCE
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=told, timeout=patience, check=False)
        told.seek(0)
        if done.returncode:
            said = told.read().decode()[-2_000:]
            raise RuntimeError(f"benchmarks.{subject} ended with code {done.returncode}:\n{said}")
    return numbers_of(json.loads(done.stdout))


def numbers_of(printed: dict[str, Any]) -> Found:
    """One shape for all: learners tell rows, the others numbers by name, of one run or of each."""
    if "rows" in printed:
        return {
            f"{row['name']}, {name}": [row[column]]
            for row in printed["rows"]
            for name, column in (("examples/s", "learnt"), ("log loss", "log_loss"))
        }
    return {name: number if isinstance(number, list) else [number] for name, number in printed.items()}


def judged(found: dict[str, Found]) -> Iterator[tuple[Budget, float]]:
    for budget in BUDGETS:
        if numbers := found.get(budget.subject, {}).get(budget.name):
            yield budget, statistics.median(numbers)


def summary(found: dict[str, Found], quick: bool) -> Table:
    table = Table(title="Beside the budgets" + (", which are not for so small a run" if quick else ""))
    table.add_column("what", no_wrap=True)
    for column in ("median", "budget", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for budget, number in judged(found):
        verdict = "[green]held[/]" if budget.holds(number) else "[red]over[/]"
        table.add_row(budget.name, readable(number), _limit(budget), verdict)
    return table


def _limit(budget: Budget) -> str:
    return f"{'≥' if budget.at_least else '≤'} {readable(budget.limit)}"


def markdown(found: dict[str, Found]) -> str:
    """The tables of docs/benchmarks.md."""
    lines = ["| beside the budgets | median | budget | |", "|---|--:|--:|---|"]
    for budget, number in judged(found):
        verdict = "held" if budget.holds(number) else "**over**"
        lines.append(f"| {budget.name} | {readable(number)} | {_limit(budget)} | {verdict} |")
    for subject, numbers in found.items():
        lines += ["", f"| {subject} | median | least | greatest |", "|---|--:|--:|--:|"]
        for name, runs in numbers.items():
            cells = [readable(number) for number in (statistics.median(runs), min(runs), max(runs))]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), metavar="NAME", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--quick", action="store_true", help="small and once: shows that it works, says little")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of which the median counts, instead of each's own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of every run")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/benchmarks.md instead")
    arguments = parser.parse_args()
    say, found, failed = Console(stderr=True), {}, []
    for subject in arguments.only or SUBJECTS:
        begin = time.monotonic()
        try:
            found[subject] = run(subject, arguments.quick, arguments.runs)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failed.append(subject)
            say.print(str(error), style="red", markup=False)
        say.print(f"{subject}: {time.monotonic() - begin:.0f} s, load {os.getloadavg()[0]:.1f}", highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.markdown:
        print(markdown(found))
    else:
        out = Console(width=None if sys.stdout.isatty() else 110)
        for subject, numbers in found.items():
            table = shown(numbers)
            table.title = subject
            out.print(table)
        out.print(summary(found, arguments.quick))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
