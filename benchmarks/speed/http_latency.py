"""One answer over HTTP at a time, from catalogues of growing size: what a person waits for when nobody else asks."""

from collections.abc import Iterator

from benchmarks.harness.runs import Numbers, RunSize, latency_quantiles, run_benchmark, temporary_folder
from benchmarks.speed.http_load import SETTINGS, put_catalog, request_recommendations, send_events
from tests.support.processes import Running

CATALOG_SIZES = (10_000, 100_000, 1_000_000)
RATE = 20  # a second: each is answered before the next is asked
SECONDS = 20
_SETTLE_TIMEOUT_S = 900.0  # seconds that the largest catalogue may take to be learnt


def measure(size: RunSize) -> Iterator[Numbers]:
    """One size after another, each asked in all runs: a system of a million items is not set up twice."""
    runs: list[Numbers] = [{} for _ in range(size.runs)]
    for items in CATALOG_SIZES[:1] if size.quick else CATALOG_SIZES:
        with temporary_folder() as folder, Running(folder, **SETTINGS) as running:
            put_catalog(running, items)
            send_events(running, size.choose(50_000, 2_000), seed=1, items=items)
            running.settle(_SETTLE_TIMEOUT_S)
            request_recommendations(running.port, RATE, size.choose(5, 1), seed=1)
            for run, numbers in enumerate(runs, 2):
                stats = request_recommendations(running.port, RATE, size.choose(SECONDS, 2), seed=run)
                numbers.update(latency_quantiles(f"http: one at a time, {items:,} items", stats.latencies_ms))
                numbers[f"http: errors in them, {items:,} items"] = stats.errors
    yield from runs


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
