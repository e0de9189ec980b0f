"""Answers and events over HTTP from the running system, asked in open loop by a generator on the same machine."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.load_generator import RequestStats, encode_post, send_requests
from benchmarks.harness.runs import Numbers, RunSize, latency_quantiles, run_benchmark, temporary_folder
from tests.support.processes import Running

ITEMS, USERS = 10_000, 5_000
SLATE_SIZE = 20
RATE = 1_000  # answers a second of the budget
MAX_P99_MS = 25.0  # ms, its p99
RATE_LADDER = (50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 750, 1_000, 1_250, 1_500, 2_000, 2_500, 3_000)
EVENTS_PER_REQUEST = 100  # events of one request
_JSON = {"content-type": "application/json"}
SETTINGS = {
    "HEADRACE_EVENTS__MAX_AGE": "0",
    "HEADRACE_SERVE__SEED": "1",
    "HEADRACE_GUARD__AUTO_REMEDIATE": "false",  # it looks on, but traffic that changes its nature at a stroke is no shop's
}


def measure(size: RunSize) -> Iterator[Numbers]:
    with temporary_folder() as folder, Running(folder, **SETTINGS) as running:
        put_catalog(running)
        accepted_rate = send_events(running, size.choose(50_000, 2_000), seed=1)
        running.settle(300)
        request_recommendations(running.port, RATE, size.choose(2, 1), seed=1)  # warms the connections and the caches
        for run in range(2, size.runs + 2):
            stats = request_recommendations(running.port, RATE, size.choose(10, 2), seed=run)
            numbers = latency_quantiles(f"http: {RATE:,} answers/s asked", stats.latencies_ms or [float("inf")])
            numbers["http: errors in them"] = stats.errors
            running.settle(300)  # what is still being learnt of them would be in the way of the ladder
            numbers[f"http: answers/s at p99 ≤ {MAX_P99_MS:.0f} ms"] = find_max_rate(
                running.port, size.choose(3, 1), run
            )
            numbers["http: events/s accepted, 100 a body"] = accepted_rate
            running.settle(300)
            yield numbers
            accepted_rate = send_events(running, size.choose(50_000, 2_000), seed=run)
            running.settle(300)


def put_catalog(running: Running, items: int = ITEMS) -> None:
    """A catalogue, for there is nothing to answer without one."""
    for body in split_into_bodies(traffic.generate_catalog(items), 1_000):
        running.http.post("/v1/items", content=body, headers=_JSON).raise_for_status()


def send_events(running: Running, n_events: int, seed: int, items: int = ITEMS) -> float:
    """Events a second that are acknowledged as durable, eight requests at a time and each at once after the other."""
    bodies = split_into_bodies(traffic.generate_organic(n_events, USERS, items, seed), EVENTS_PER_REQUEST)
    requests = [encode_post(running.port, "/v1/events", body) for body in bodies]
    begin = time.perf_counter()
    stats = send_requests(running.port, requests, rate=1e6, connections=8)
    assert stats.errors == 0, f"{stats.errors} of {len(requests)} bodies of events were not taken"
    return n_events / (time.perf_counter() - begin)


def request_recommendations(port: int, rate: float, seconds: float, seed: int) -> RequestStats:
    rng = np.random.default_rng(seed)
    user_rows = rng.integers(0, USERS, int(rate * seconds)).tolist()
    bodies = [msgspec.json.encode({"user_id": f"user-{user}", "k": SLATE_SIZE}) for user in user_rows]
    return send_requests(port, [encode_post(port, "/v1/recommendations", body) for body in bodies], rate)


def find_max_rate(port: int, seconds: float, seed: int) -> float:
    """The highest rung of the ladder that is answered in time and without errors; 0 if none is.

    A rung has some hundred questions, and a second try: of a few, the slowest hundredth is one hiccup.
    """
    max_rate = 0.0
    for rate in RATE_LADDER:
        if not any(
            _is_within_budget(request_recommendations(port, rate, max(seconds, 600 / rate), seed + seed_offset))
            for seed_offset in (0, 100)
        ):
            break
        max_rate = rate
    return max_rate


def _is_within_budget(stats: RequestStats) -> bool:
    return not stats.errors and float(np.quantile(stats.latencies_ms, 0.99)) <= MAX_P99_MS


def split_into_bodies(records: Iterable[tuple[bytes, bytes]], length: int) -> Iterator[bytes]:
    """JSON lists of so many values each."""
    remaining = iter(records)
    while chunk := list(islice(remaining, length)):
        yield b"[" + b",".join(value for _, value in chunk) + b"]"


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
