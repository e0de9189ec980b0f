"""HTTP latency of sequential requests without other load, by catalog size."""

from collections.abc import Iterator

from benchmarks.harness.runs import Numbers, RunSize, latency_quantiles, run_benchmark, temporary_folder
from benchmarks.speed.http_load import SETTINGS, put_catalog, request_recommendations, send_events
from tests.support.processes import RunningSystem

CATALOG_SIZES = (10_000, 100_000, 1_000_000)
RATE = 20  # requests/s: each is answered before the next one
SECONDS = 20
_SETTLE_TIMEOUT_S = 900.0  # to load the largest catalog


def measure(size: RunSize) -> Iterator[Numbers]:
    """Measure all runs of one catalog size before the next, since a million items load slowly."""
    runs: list[Numbers] = [{} for _ in range(size.runs)]
    for items in CATALOG_SIZES[:1] if size.quick else CATALOG_SIZES:
        with temporary_folder() as folder, RunningSystem(folder, **SETTINGS) as running:
            put_catalog(running, items)
            send_events(running, size.choose(50_000, 2_000), seed=1, items=items)
            running.settle(_SETTLE_TIMEOUT_S)
            request_recommendations(running.port, RATE, size.choose(5, 1), seed=1)
            for run, numbers in enumerate(runs, 2):
                stats = request_recommendations(running.port, RATE, size.choose(SECONDS, 2), seed=run)
                numbers.update(latency_quantiles(f"http: sequential, {items:,} items", stats.latencies_ms))
                numbers[f"http: sequential, {items:,} items, errors"] = stats.errors
    yield from runs


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
