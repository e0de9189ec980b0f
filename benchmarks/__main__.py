"""Run all benchmarks and compare the medians with the budgets.

    python -m benchmarks [--only NAME …] [--quick] [--json FILE] [--markdown]

Each module runs in its own process, so that memory and caches are not shared.
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

from benchmarks.harness.runs import build_table, format_number

SubjectNumbers = dict[str, list[float]]  # numbers of all runs, by name
_TIMEOUT_S = 3_600  # per module
_QUICK_TIMEOUT_S = 300
_FIXED_RUNS = ("speed.local_drivers", "quality.vw_news_simulator")  # subjects with a fixed number of runs


@dataclass(frozen=True, slots=True)
class PerformanceBudget:
    """Limit for one number."""

    subject: str
    name: str
    limit: float
    is_minimum: bool = False  # False: the limit is a maximum

    def is_satisfied(self, number: float) -> bool:
        return number >= self.limit if self.is_minimum else number <= self.limit


SUBJECTS = {  # with the options of a quick run
    "speed.learner": ("--quick",),
    "speed.rankers": ("--examples", "20000", "--runs", "1"),
    "speed.stream_worker": ("--quick",),
    "speed.local_drivers": ("--quick",),
    "speed.broker_drivers": ("--quick",),
    "speed.stream_scaling": ("--quick",),
    "speed.filters": ("--quick",),
    "speed.ranking_latency": ("--quick",),
    "speed.http_load": ("--quick",),
    "speed.http_latency": ("--quick",),
    "speed.freshness": ("--quick",),
    "speed.checkpoints": ("--quick",),
    "speed.memory": ("--quick",),
    "speed.storage": ("--quick",),
    "speed.bandits": ("--quick",),
    "quality.vw_news_simulator": ("--quick",),
}
BUDGETS = (
    PerformanceBudget("speed.learner", "learner: organic clicks, batch 64, clicks/s", 50_000, is_minimum=True),
    PerformanceBudget("speed.learner", "learner: organic clicks, batch 2,048, clicks/s", 50_000, is_minimum=True),
    PerformanceBudget("speed.learner", "learner: slates of 20, batch 64, slates/s", 10_000, is_minimum=True),
    PerformanceBudget("speed.learner", "learner: slates of 20, batch 2,048, slates/s", 10_000, is_minimum=True),
    PerformanceBudget("speed.rankers", "headrace linear, examples/s", 3_000_000, is_minimum=True),
    PerformanceBudget("speed.rankers", "headrace fm, examples/s", 800_000, is_minimum=True),
    PerformanceBudget("speed.rankers", "headrace deep, examples/s", 150_000, is_minimum=True),
    PerformanceBudget("speed.stream_worker", "stream: clicks and views, events/s", 100_000, is_minimum=True),
    PerformanceBudget("speed.stream_worker", "stream: slates of 10 and clicks, events/s", 100_000, is_minimum=True),
    PerformanceBudget("speed.local_drivers", "local log: append and read, records/s", 150_000, is_minimum=True),
    PerformanceBudget("speed.local_drivers", "local store: put_many, users/s", 200_000, is_minimum=True),
    PerformanceBudget("speed.local_drivers", "local store: get, p99 ms", 0.4),
    PerformanceBudget(
        "speed.broker_drivers",
        "stream: kafka-python and Redis, 1 event per record, events/CPU s",
        50_000,
        is_minimum=True,
    ),
    PerformanceBudget(
        "speed.broker_drivers",
        "stream: confluent and Redis, 1 event per record, events/CPU s",
        90_000,
        is_minimum=True,
    ),
    PerformanceBudget("speed.ranking_latency", "recommend: 1,000,000 items, p50 ms", 2.5),
    PerformanceBudget("speed.ranking_latency", "recommend: 1,000,000 items, p99 ms", 6.0),
    PerformanceBudget("speed.http_load", "http: 1,000 requests/s, p99 ms", 25.0),
    PerformanceBudget("speed.http_load", "http: 1,000 requests/s, errors", 0),
    PerformanceBudget("speed.http_load", "http: maximum requests/s at p99 ≤ 25 ms", 1_000, is_minimum=True),
    PerformanceBudget("speed.http_load", "http: 3,000 requests/s, accepted, p99 ms", 50),
    PerformanceBudget("speed.freshness", "freshness: click to item count, p99 ms", 250.0),
    PerformanceBudget("speed.freshness", "freshness: click to recommendation, p99 ms", 250.0),
    PerformanceBudget("speed.checkpoints", "checkpoint: write and fsync, s", 2.0),
    PerformanceBudget("speed.checkpoints", "checkpoint: learner pause, ms", 100.0),
    PerformanceBudget("speed.checkpoints", "kill -9 serve: seconds until it answers", 10.0),
    PerformanceBudget("speed.checkpoints", "kill -9 learn: seconds until new events are in the model", 10.0),
    PerformanceBudget("speed.checkpoints", "kill -9 stream: seconds until new events are in the model", 10.0),
    PerformanceBudget("speed.memory", "memory: counters, catalog and vectors, bytes per item", 1_024),
    PerformanceBudget("speed.memory", "memory: user record with 20 actions, bytes", 1_024),
    PerformanceBudget("speed.bandits", "headrace LinUCB, 34 arms, d = 20, predictions/s", 50_000, is_minimum=True),
    PerformanceBudget("speed.bandits", "headrace LinUCB, 34 arms, d = 20, updates/s", 100_000, is_minimum=True),
    PerformanceBudget("speed.bandits", "headrace LinUCB, 1,000 arms, d = 32, predictions/s", 5_000, is_minimum=True),
    PerformanceBudget("quality.vw_news_simulator", "headrace LinUCB, static", 0.997, is_minimum=True),
    PerformanceBudget("quality.vw_news_simulator", "headrace LinUCB, flip", 0.97, is_minimum=True),
)


def run_subject(subject: str, quick: bool, runs: int | None = None) -> SubjectNumbers:
    """Run a module and return its numbers; RuntimeError if it fails."""
    command = [sys.executable, "-m", f"benchmarks.{subject}", "--json", *(SUBJECTS[subject] if quick else ())]
    if runs and subject not in _FIXED_RUNS:
        command += ["--runs", str(runs)]
    with tempfile.TemporaryFile() as stderr:
        timeout = _QUICK_TIMEOUT_S if quick else _TIMEOUT_S
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, timeout=timeout, check=False)
        stderr.seek(0)
        if process.returncode:
            error_output = stderr.read().decode()[-2_000:]
            raise RuntimeError(f"benchmarks.{subject} ended with code {process.returncode}:\n{error_output}")
    return parse_numbers(json.loads(process.stdout))


def parse_numbers(document: dict[str, Any]) -> SubjectNumbers:
    """Convert the JSON of a module into numbers by name; `speed.rankers` prints rows instead."""
    if "rows" in document:
        return {
            f"{row['name']}, {name}": [row[column]]
            for row in document["rows"]
            for name, column in (("examples/s", "train_rate"), ("log loss", "log_loss"))
        }
    return {name: number if isinstance(number, list) else [number] for name, number in document.items()}


def compare_budgets(results: dict[str, SubjectNumbers]) -> Iterator[tuple[PerformanceBudget, float]]:
    """Yield each budget that has results, with their median."""
    for budget in BUDGETS:
        if numbers := results.get(budget.subject, {}).get(budget.name):
            yield budget, statistics.median(numbers)


def build_summary(results: dict[str, SubjectNumbers], quick: bool) -> Table:
    table = Table(title="Budgets" + (" (not meaningful for a quick run)" if quick else ""))
    table.add_column("number", no_wrap=True)
    for column in ("median", "budget", "result"):
        table.add_column(column, justify="right", no_wrap=True)
    for budget, number in compare_budgets(results):
        verdict = "[green]ok[/]" if budget.is_satisfied(number) else "[red]over[/]"
        table.add_row(budget.name, format_number(number), _format_limit(budget), verdict)
    return table


def _format_limit(budget: PerformanceBudget) -> str:
    return f"{'≥' if budget.is_minimum else '≤'} {format_number(budget.limit)}"


def format_markdown(results: dict[str, SubjectNumbers]) -> str:
    """Format the tables of docs/benchmarks.md."""
    lines = ["| number | median | budget | result |", "|---|--:|--:|---|"]
    for budget, number in compare_budgets(results):
        verdict = "ok" if budget.is_satisfied(number) else "**over**"
        lines.append(f"| {budget.name} | {format_number(number)} | {_format_limit(budget)} | {verdict} |")
    for subject, numbers in results.items():
        lines += ["", f"| {subject} | median | min | max |", "|---|--:|--:|--:|"]
        for name, runs in numbers.items():
            cells = [format_number(number) for number in (statistics.median(runs), min(runs), max(runs))]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(SUBJECTS), metavar="NAME", help=f"modules: {', '.join(SUBJECTS)}"
    )
    parser.add_argument("--quick", action="store_true", help="one small run, to see that it works")
    parser.add_argument("--runs", type=int, metavar="N", help="number of runs (default: that of each module)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of all runs")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/benchmarks.md")
    arguments = parser.parse_args()
    console, results, failed = Console(stderr=True), {}, []
    for subject in arguments.only or SUBJECTS:
        started = time.monotonic()
        try:
            results[subject] = run_subject(subject, arguments.quick, arguments.runs)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failed.append(subject)
            console.print(str(error), style="red", markup=False)
        console.print(f"{subject}: {time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}", highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.markdown:
        print(format_markdown(results))
    else:
        out = Console(width=None if sys.stdout.isatty() else 110)
        for subject, numbers in results.items():
            table = build_table(numbers)
            table.title = subject
            out.print(table)
        out.print(build_summary(results, arguments.quick))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
