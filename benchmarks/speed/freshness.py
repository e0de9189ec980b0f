"""Freshness: time from an acknowledged click to changed responses of the running system."""

import time
from collections.abc import Callable, Iterator

import httpx

from benchmarks.harness.runs import Numbers, RunSize, latency_quantiles, run_benchmark, temporary_folder
from benchmarks.speed.http_load import SETTINGS, put_catalog, send_events
from tests.support.processes import RunningSystem

PROBES = 100
_POLL_INTERVAL_S = 0.001
_TIMEOUT_S = 10.0


def measure(size: RunSize) -> Iterator[Numbers]:
    with temporary_folder() as folder, RunningSystem(folder, **SETTINGS) as running:
        put_catalog(running)
        send_events(running, size.choose(20_000, 1_000), seed=1)
        running.settle(300)
        for i in range(3):  # compiles the remaining kernels
            measure_probe(running.http, f"warm-{i}")
        for run in range(size.runs):
            probes = [measure_probe(running.http, f"probe-{run}-{i}") for i in range(size.choose(PROBES, 10))]
            count_ms, answer_ms = [probe[0] for probe in probes], [probe[1] for probe in probes]
            yield latency_quantiles("freshness: click to item count", count_ms) | latency_quantiles(
                "freshness: click to recommendation", answer_ms
            )


def measure_probe(http: httpx.Client, name: str) -> tuple[float, float]:
    """Click a new user's best item; ms until it is counted, and until it is not recommended."""
    request = {"user_id": name, "k": 20, "explore": False, "log": False}

    def recommended_ids() -> list[str]:
        return [item["item_id"] for item in http.post("/v1/recommendations", json=request).json()["items"]]

    def count_clicks() -> int:
        counts: dict[str, int] = http.get(f"/v1/items/{item}").json()["counts"]
        return counts["click"]

    response = http.post("/v1/recommendations", json=request | {"log": True}).json()
    item = response["items"][0]["item_id"]
    before = count_clicks()
    event = {"event_id": name, "type": "click", "ts": time.time_ns() // 10**6, "user_id": name, "item_id": item}
    # Without an impression, many users who act on one item look like a shilling attack.
    event["impression_id"] = response["impression_id"]
    http.post("/v1/events", json=event).raise_for_status()
    acknowledged_at = time.perf_counter()
    count_ms = answer_ms = 0.0
    while not (count_ms and answer_ms):
        if time.perf_counter() - acknowledged_at > _TIMEOUT_S:
            raise TimeoutError(f"click {name} has not changed the responses within {_TIMEOUT_S} s")
        count_ms = count_ms or _elapsed_ms_if(acknowledged_at, lambda: count_clicks() > before)
        answer_ms = answer_ms or _elapsed_ms_if(acknowledged_at, lambda: item not in recommended_ids())
        time.sleep(_POLL_INTERVAL_S)
    return count_ms, answer_ms


def _elapsed_ms_if(begin: float, condition: Callable[[], bool]) -> float:
    """Milliseconds since `begin` if the condition holds, else 0."""
    return 1e3 * (time.perf_counter() - begin) if condition() else 0.0


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
