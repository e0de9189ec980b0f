"""How long after a click was acknowledged the answers have changed, in the running system."""

import time
from collections.abc import Callable, Iterator

import httpx

from benchmarks.harness.runs import Numbers, Size, quantiles, run_alone, temporary_folder
from benchmarks.speed.http_load import SETTINGS, events, furnish
from tests.support.processes import Running

PROBES = 100
_PAUSE = 0.001  # seconds between two looks
_PATIENCE = 10.0


def measure(size: Size) -> Iterator[Numbers]:
    with temporary_folder() as folder, Running(folder, **SETTINGS) as running:
        furnish(running)
        events(running, size.of(20_000, 1_000), seed=1)
        running.settle(300)
        for i in range(3):  # compiles what is not yet compiled
            probed(running.http, f"warm-{i}")
        for run in range(size.runs):
            probes = [probed(running.http, f"probe-{run}-{i}") for i in range(size.of(PROBES, 10))]
            counted, gone = [probe[0] for probe in probes], [probe[1] for probe in probes]
            yield quantiles("freshness: click to count", counted) | quantiles("freshness: click to answer", gone)


def probed(http: httpx.Client, name: str) -> tuple[float, float]:
    """A new person clicks on their best item: ms until it is counted, ms until it is no longer recommended to them."""
    question = {"user_id": name, "k": 20, "explore": False, "log": False}

    def best() -> list[str]:
        return [item["item_id"] for item in http.post("/v1/recommendations", json=question).json()["items"]]

    def clicks() -> int:
        counts: dict[str, int] = http.get(f"/v1/items/{item}").json()["counts"]
        return counts["click"]

    shown = http.post("/v1/recommendations", json=question | {"log": True}).json()
    item = shown["items"][0]["item_id"]
    before = clicks()
    event = {"event_id": name, "type": "click", "ts": time.time_ns() // 10**6, "user_id": name, "item_id": item}
    event["impression_id"] = shown["impression_id"]  # many who act, unshown, on one item are taken for a pumping group
    http.post("/v1/events", json=event).raise_for_status()
    acknowledged = time.perf_counter()
    counted = gone = 0.0
    while not (counted and gone):
        if time.perf_counter() - acknowledged > _PATIENCE:
            raise TimeoutError(f"the click {name} has not changed the answers within {_PATIENCE} s")
        counted = counted or _since(acknowledged, lambda: clicks() > before)
        gone = gone or _since(acknowledged, lambda: item not in best())
        time.sleep(_PAUSE)
    return counted, gone


def _since(begin: float, holds: Callable[[], bool]) -> float:
    """Milliseconds since the beginning if it holds now, else 0."""
    return 1e3 * (time.perf_counter() - begin) if holds() else 0.0


if __name__ == "__main__":
    run_alone(__doc__, measure)
