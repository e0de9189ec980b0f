"""Simulated shoppers that use a running `headrace serve`, and counts of the results."""

import contextlib
import secrets
import threading
import time
from dataclasses import dataclass, replace
from threading import Event as Signal
from typing import Any

from headrace.client import BufferSettings, Client, ClientError, ClientSettings, EventsNotSent
from headrace.demo.samples import Totals
from replay.simulation.simulator import Simulator
from stream.clock import HOUR_MS, Clock

PROBE_ITEM = {"item_id": "probe", "title": "Item of the freshness probe; never recommended", "available": False}


@dataclass(frozen=True, slots=True)
class TrafficSettings:
    """Load of the simulated shoppers."""

    requests_per_second: float = 300.0  # at most
    concurrent_shoppers: int = 4
    slate_size: int = 10
    send_interval_s: float = 0.05  # events of one connection are sent together
    failure_delay_s: float = 0.5


class Traffic:
    """Run shoppers inside a `with` block."""

    def __init__(self, url: str, simulator: Simulator, settings: TrafficSettings | None = None) -> None:
        self._url = url
        self._simulator = simulator
        self._settings = settings or TrafficSettings()
        self._totals = Totals()
        self._lock = threading.Lock()  # of the simulator, the totals and the pace
        self._next_at = time.monotonic()
        self._stop = Signal()
        self._threads = [
            threading.Thread(target=self._run, name=f"shopper {i}") for i in range(self._settings.concurrent_shoppers)
        ]

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
        settings = ClientSettings(max_retries=0)  # failures are counted instead
        pace = BufferSettings(interval_s=self._settings.send_interval_s)
        with (
            contextlib.suppress(EventsNotSent),
            Client(self._url, settings=settings) as client,
            client.buffer_events(pace) as buffer,
        ):
            while not self._stop.wait(self._seconds_to_next_shopper()):
                try:
                    for event in self._visit(client):
                        buffer.add(event)
                except ClientError:
                    with self._lock:
                        self._totals.failures += 1
                    self._stop.wait(self._settings.failure_delay_s)

    def _seconds_to_next_shopper(self) -> float:
        """Reserve the next start time, and return the seconds until then."""
        with self._lock:
            now = time.monotonic()
            self._next_at = max(self._next_at + 1 / self._settings.requests_per_second, now)
            return self._next_at - now

    def _visit(self, client: Client) -> list[dict[str, Any]]:
        """Request a slate for one shopper and simulate the feedback; returns the events to send."""
        simulator, totals, k = self._simulator, self._totals, self._settings.slate_size
        with self._lock:
            shopper = simulator.next_shopper()
            expected = simulator.expected_ctr(shopper, k)
        response = client.recommend(simulator.users[shopper], k)
        item_ids = [item.item_id for item in response.items]
        with self._lock:
            clicks, events = simulator.simulate_feedback(shopper, response.impression_id, item_ids)
            totals.responses += 1
            totals.events += 1 + len(events)
            totals.slate_items += len(item_ids)
            totals.clicks += clicks
            totals.random += expected.random * len(item_ids)
            totals.popular += expected.popular * len(item_ids)
            totals.best += expected.best * len(item_ids)
        return events


class FreshnessProbe:
    """Measure the delay from a click until the model counts it, on an item of its own."""

    def __init__(self, client: Client, clock: Clock, timeout_s: float = 5.0, poll_interval_s: float = 0.005) -> None:
        self._client = client
        self._clock = clock
        self._timeout_s = timeout_s
        self._poll_interval_s = poll_interval_s

    def measure(self) -> float:
        """Seconds from sending a click until the item's counts include it, or to the timeout."""
        before, started = self._count_clicks(), time.monotonic()
        self._client.send_events([_make_event("probe", "click", self._clock.now_ms(), str(PROBE_ITEM["item_id"]))])
        while (elapsed := time.monotonic() - started) < self._timeout_s and self._count_clicks() == before:
            time.sleep(self._poll_interval_s)
        return elapsed

    def _count_clicks(self) -> int:
        clicks: int = self._client.item(str(PROBE_ITEM["item_id"]))["counts"]["click"]
        return clicks


def warm_up(client: Client, clock: Clock, max_seconds: float, slate_size: int = 10) -> bool:
    """Simulate a visit in the past; True if all processes handled it within `max_seconds`.

    The attribution window of the visit has passed, so it closes at once and the kernels of slate training compile.
    """
    past_ts = clock.now_ms() - HOUR_MS
    started = time.monotonic()
    response = client.recommend("visitor", slate_size, ts=past_ts)
    item_ids = [item.item_id for item in response.items]
    if len(item_ids) < slate_size:
        return False
    clicks = [_make_event("visitor", "click", past_ts, item_id, response.impression_id) for item_id in item_ids[:2]]
    client.send_events([*clicks, _make_event("visitor", "view", past_ts, item_ids[-1])])
    FreshnessProbe(client, clock).measure()
    FreshnessProbe(client, clock).measure()
    return time.monotonic() - started < max_seconds


def _make_event(user: str, kind: str, ts: int, item: str, impression: str | None = None) -> dict[str, Any]:
    event = {"event_id": secrets.token_hex(8), "type": kind, "ts": ts, "user_id": user, "item_id": item}
    return event if impression is None else event | {"impression_id": impression}
