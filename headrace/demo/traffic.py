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
PROBE = {"item_id": "probe", "title": "Is clicked to see how soon it shows; is never shown", "available": False}
_SHOPPERS_AT_ONCE = 4
_EVENTS_EVERY = 0.05  # seconds for which events of one connection are gathered
_TIMEOUT = 10.0
_PATIENCE = 5.0  # seconds


class Traffic:
    """A context: the shoppers come and go inside it, at most `pace` of them a second."""

    def __init__(self, url: str, simulator: Simulator, pace: float) -> None:
        self._url = url
        self._simulator = simulator
        self._gap = 1 / pace
        self._totals = Totals()
        self._lock = threading.Lock()  # of the simulator, the totals and the pace
        self._next_at = time.monotonic()
        self._stop = Signal()
        self._threads = [threading.Thread(target=self._run, name=f"shopper {i}") for i in range(_SHOPPERS_AT_ONCE)]

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
        with httpx.Client(base_url=self._url, timeout=_TIMEOUT) as client:
            events: list[dict[str, Any]] = []
            sent_at = time.monotonic()
            while not self._stop.wait(self._wait()):
                try:
                    events += self._visit(client)
                    if events and time.monotonic() - sent_at >= _EVENTS_EVERY:
                        _checked(client.post("/v1/events", json=events))
                        events, sent_at = [], time.monotonic()
                except httpx.HTTPError:
                    with self._lock:
                        self._totals.failures += 1
                    self._stop.wait(0.5)

    def _wait(self) -> float:
        """Seconds until the next shopper may come."""
        with self._lock:
            now = time.monotonic()
            self._next_at = max(self._next_at + self._gap, now)
            return self._next_at - now

    def _visit(self, client: httpx.Client) -> list[dict[str, Any]]:
        """One shopper asks, looks, and acts: the events that are to be sent."""
        simulator, totals = self._simulator, self._totals
        with self._lock:
            shopper = simulator.next_shopper()
            expected = simulator.expected(shopper, K)
        answer = _checked(client.post("/v1/recommendations", json={"user_id": simulator.users[shopper], "k": K})).json()
        items = [place["item_id"] for place in answer["items"]]
        with self._lock:
            clicks, events = simulator.react(shopper, answer["impression_id"], items)
            totals.answers += 1
            totals.events += 1 + len(events)
            totals.places += len(items)
            totals.clicks += clicks
            totals.random += expected.random * len(items)
            totals.popular += expected.popular * len(items)
            totals.best += expected.best * len(items)
        return events


class Probe:
    """Measures how soon a click is in the answers: it clicks an item of its own until serve tells of it."""

    def __init__(self, client: httpx.Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def measure(self) -> float:
        """Seconds from sending a click to an answer that knows of it, or until patience ran out."""
        before, started = self._clicks(), time.monotonic()
        _checked(self._client.post("/v1/events", json=_event("probe", "click", self._clock.now_ms(), PROBE["item_id"])))
        while (waited := time.monotonic() - started) < _PATIENCE and self._clicks() == before:
            time.sleep(0.005)
        return waited

    def _clicks(self) -> int:
        clicks: int = _checked(self._client.get(f"/v1/items/{PROBE['item_id']}")).json()["counts"]["click"]
        return clicks


def rehearse(client: httpx.Client, clock: Clock, enough: float) -> bool:
    """Have a visitor of the past do what shoppers do; whether it went through all processes in `enough` seconds.

    The visit is long over, so its window closes at once: everything that is learnt from slates is compiled by this.
    """
    past = clock.now_ms() - 3_600_000
    began = time.monotonic()
    answer = _checked(client.post("/v1/recommendations", json={"user_id": "visitor", "k": K, "ts": past})).json()
    items = [place["item_id"] for place in answer["items"]]
    if len(items) < K:
        return False
    clicks = [_event("visitor", "click", past, item, answer["impression_id"]) for item in items[:2]]
    _checked(client.post("/v1/events", json=[*clicks, _event("visitor", "view", past, items[-1])]))
    Probe(client, clock).measure()
    Probe(client, clock).measure()
    return time.monotonic() - began < enough


def _event(user: str, kind: str, ts: int, item: object, impression: str | None = None) -> dict[str, Any]:
    event = {"event_id": secrets.token_hex(8), "type": kind, "ts": ts, "user_id": user, "item_id": item}
    return event if impression is None else event | {"impression_id": impression}


def _checked(response: httpx.Response) -> httpx.Response:
    return response.raise_for_status()
