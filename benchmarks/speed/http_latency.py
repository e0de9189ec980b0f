"""One answer over HTTP at a time, from catalogues of growing size: what a person waits for when nobody else asks."""

from collections.abc import Iterator

from benchmarks.harness.runs import Numbers, Size, quantiles, run_alone, temporary_folder
from benchmarks.speed.http_load import SETTINGS, answers, events, furnish
from tests.support.processes import Running

CATALOGUES = (10_000, 100_000, 1_000_000)
RATE = 20  # a second: each is answered before the next is asked
SECONDS = 20
_PATIENCE = 900.0  # seconds that the largest catalogue may take to be learnt


def measure(size: Size) -> Iterator[Numbers]:
    """One size after another, each asked in all runs: a system of a million items is not set up twice."""
    runs: list[Numbers] = [{} for _ in range(size.runs)]
    for items in CATALOGUES[:1] if size.quick else CATALOGUES:
        with temporary_folder() as folder, Running(folder, **SETTINGS) as running:
            furnish(running, items)
            events(running, size.of(50_000, 2_000), seed=1, items=items)
            running.settle(_PATIENCE)
            answers(running.port, RATE, size.of(5, 1), seed=1)
            for run, numbers in enumerate(runs, 2):
                told = answers(running.port, RATE, size.of(SECONDS, 2), seed=run)
                numbers.update(quantiles(f"http: one at a time, {items:,} items", told.milliseconds))
                numbers[f"http: errors in them, {items:,} items"] = told.errors
    yield from runs


if __name__ == "__main__":
    run_alone(__doc__, measure)
