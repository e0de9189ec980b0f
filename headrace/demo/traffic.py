"""What the simulated shoppers do to a running `headrace serve` over HTTP, and what is counted of it."""

import secrets
import threading
import time
from dataclasses import replace
from threading import Event as Signal
from typing import Any

import httpx

from headrace.demo.samples import Totals
from replay.simulation.simulator import Simulator
from stream.clock import Clock

K = 10  # places of a slate
PROBE_ITEM = {"item_id": "probe", "title": "Is clicked to see how soon it shows; is never shown", "available": False}
_CONCURRENT_SHOPPERS = 4
_SEND_INTERVAL_S = 0.05  # seconds for which events of one connection are gathered
_REQUEST_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 5.0  # seconds


class Traffic:
    """A context: the shoppers come and go inside it, at most `pace` of them a second."""

    def __init__(self, url: str, simulator: Simulator, requests_per_second: float) -> None:
        self._url = url
        self._simulator = simulator
        self._interval_s = 1 / requests_per_second
        self._totals = Totals()
        self._lock = threading.Lock()  # of the simulator, the totals and the pace
        self._next_at = time.monotonic()
        self._stop = Signal()
        self._threads = [threading.Thread(target=self._run, name=f"shopper {i}") for i in range(_CONCURRENT_SHOPPERS)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def totals(self) -> Totals:
        with self._lock:
            return replace(self._totals)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=_REQUEST_TIMEOUT_S) as client:
            events: list[dict[str, Any]] = []
            sent_at = time.monotonic()
            while not self._stop.wait(self._wait()):
                try:
                    events += self._visit(client)
                    if events and time.monotonic() - sent_at >= _SEND_INTERVAL_S:
                        _raise_for_status(client.post("/v1/events", json=events))
                        events, sent_at = [], time.monotonic()
                except httpx.HTTPError:
                    with self._lock:
                        self._totals.failures += 1
                    self._stop.wait(0.5)

    def _wait(self) -> float:
        """Seconds until the next shopper may come."""
        with self._lock:
            now = time.monotonic()
            self._next_at = max(self._next_at + self._interval_s, now)
            return self._next_at - now

    def _visit(self, client: httpx.Client) -> list[dict[str, Any]]:
        """One shopper asks, looks, and acts: the events that are to be sent."""
        simulator, totals = self._simulator, self._totals
        with self._lock:
            shopper = simulator.next_shopper()
            expected = simulator.expected_ctr(shopper, K)
        response = _raise_for_status(
            client.post("/v1/recommendations", json={"user_id": simulator.users[shopper], "k": K})
        ).json()
        item_ids = [slate_item["item_id"] for slate_item in response["items"]]
        with self._lock:
            clicks, events = simulator.simulate_feedback(shopper, response["impression_id"], item_ids)
            totals.responses += 1
            totals.events += 1 + len(events)
            totals.slate_items += len(item_ids)
            totals.clicks += clicks
            totals.random += expected.random * len(item_ids)
            totals.popular += expected.popular * len(item_ids)
            totals.best += expected.best * len(item_ids)
        return events


class FreshnessProbe:
    """Measures how soon a click is in the answers: it clicks an item of its own until serve tells of it."""

    def __init__(self, client: httpx.Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def measure(self) -> float:
        """Seconds from sending a click to an answer that knows of it, or until patience ran out."""
        before, started = self._count_clicks(), time.monotonic()
        _raise_for_status(
            self._client.post(
                "/v1/events", json=_make_event("probe", "click", self._clock.now_ms(), PROBE_ITEM["item_id"])
            )
        )
        while (elapsed := time.monotonic() - started) < _PROBE_TIMEOUT_S and self._count_clicks() == before:
            time.sleep(0.005)
        return elapsed

    def _count_clicks(self) -> int:
        clicks: int = _raise_for_status(self._client.get(f"/v1/items/{PROBE_ITEM['item_id']}")).json()["counts"][
            "click"
        ]
        return clicks


def warm_up(client: httpx.Client, clock: Clock, max_seconds: float) -> bool:
    """Have a visitor of the past do what shoppers do; whether it went through all processes in `enough` seconds.

    The visit is long over, so its window closes at once: everything that is learnt from slates is compiled by this.
    """
    past_ts = clock.now_ms() - 3_600_000
    started = time.monotonic()
    response = _raise_for_status(
        client.post("/v1/recommendations", json={"user_id": "visitor", "k": K, "ts": past_ts})
    ).json()
    item_ids = [slate_item["item_id"] for slate_item in response["items"]]
    if len(item_ids) < K:
        return False
    clicks = [_make_event("visitor", "click", past_ts, item, response["impression_id"]) for item in item_ids[:2]]
    _raise_for_status(client.post("/v1/events", json=[*clicks, _make_event("visitor", "view", past_ts, item_ids[-1])]))
    FreshnessProbe(client, clock).measure()
    FreshnessProbe(client, clock).measure()
    return time.monotonic() - started < max_seconds


def _make_event(user: str, kind: str, ts: int, item: object, impression: str | None = None) -> dict[str, Any]:
    event = {"event_id": secrets.token_hex(8), "type": kind, "ts": ts, "user_id": user, "item_id": item}
    return event if impression is None else event | {"impression_id": impression}


def _raise_for_status(response: httpx.Response) -> httpx.Response:
    return response.raise_for_status()
