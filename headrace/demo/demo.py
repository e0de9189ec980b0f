"""`headrace demo`: the three processes on this machine, a crowd of simulated shoppers, and a view of what is learnt."""

import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Signal

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from headrace.demo.samples import Glance, Story
from headrace.demo.traffic import PROBE, Probe, Traffic, rehearse
from headrace.demo.view import LineView, LiveView, View, summary
from headrace.supervisor import Household
from replay.simulation.simulator import Shop, Simulator, make_crowd, make_shop
from stream.clock import Clock, SystemClock
from stream.process import stop_on_signals

_PACE = 300.0  # answers a second at most
_PATIENCE = 300.0  # seconds until the processes are warm; the first time they compile their kernels
_WARM = 2.0  # seconds that a rehearsal takes at most when nothing is left to compile
_ITEMS_AT_ONCE = 1000
_PORTS = {"HEADRACE_SERVE__PORT": 8000, "HEADRACE_STREAM__METRICS_PORT": 9101, "HEADRACE_LEARN__METRICS_PORT": 9102}
_SETTINGS = {
    "HEADRACE_LOG__URL": "",
    "HEADRACE_STORE__URL": "",
    "HEADRACE_SERVE__HOST": "127.0.0.1",
    "HEADRACE_STREAM__WINDOW": "5",  # a slate that nobody clicked is known as such within the demo
    "HEADRACE_STREAM__LATENESS": "1",
}
_MEASURES = {"log_loss": "log loss", "auc": "AUC"}  # of the learner's gauge, and what people read


class NotRunning(Exception):
    """The processes do not come up, or do not stay up."""


@dataclass(frozen=True)
class Place:
    """Where the demo's processes are to be found."""

    client: httpx.Client  # of serve
    learner: str  # the page of learn's metrics
    household: Household

    def tend(self) -> None:
        """Keep the processes up; NotRunning if one of them cannot be."""
        self.household.tend()
        if verb := self.household.hopeless():
            raise NotRunning(f"{verb} dies each time it is started")


def run_demo(seconds: float | None, shoppers: int, items: int, seed: int, plain: bool) -> int:
    """Run until told to stop, or for so many seconds of shopping; 0, or 1 when the processes would not run."""
    console, clock, stop = Console(), SystemClock(), stop_on_signals()
    rng = np.random.default_rng(seed)
    simulator = Simulator(make_shop(items, clock.now_ms(), rng), make_crowd(shoppers, rng), clock, rng)
    view = LineView(console) if plain or not console.is_terminal else LiveView(console)
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    try:
        story = _run(folder, simulator, clock, seconds, view, stop)
    except NotRunning as error:
        kept = Path(tempfile.mkdtemp(prefix="headrace-demo-failed-")) / "demo.log"
        shutil.move(folder / "demo.log", kept)
        console.print(f"headrace: {error}; what the processes said is in {kept}", soft_wrap=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len(story.samples) > 1:
        console.print(summary(story))
    return 0


def _run(folder: Path, simulator: Simulator, clock: Clock, seconds: float | None, view: View, stop: Signal) -> Story:
    """start → warm up → shop → stop."""
    ports = {name: os.environ.get(name) or str(_free(port)) for name, port in _PORTS.items()}
    url = f"http://127.0.0.1:{ports['HEADRACE_SERVE__PORT']}"
    story = Story(url, seconds)
    with (
        (folder / "demo.log").open("wb") as output,
        Household(environ={"HEADRACE_DATA__FOLDER": str(folder), **_SETTINGS, **ports}, output=output) as household,
        httpx.Client(base_url=url, timeout=10.0) as client,
        view,
    ):
        logging.basicConfig(filename=folder / "demo.log", format="%(asctime)s demo   %(message)s", force=True)
        place = Place(client, f"http://127.0.0.1:{ports['HEADRACE_LEARN__METRICS_PORT']}/metrics", household)
        if _open_shop(place, simulator.shop, clock, view, stop):
            with Traffic(url, simulator, _PACE) as traffic:
                _watch(place, traffic, Probe(client, clock), story, view, stop)
    return story


def _free(preferred: int) -> int:
    """The preferred port of this machine if nobody has it, else one that is free."""
    for port in (preferred, 0):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(taken.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _open_shop(place: Place, shop: Shop, clock: Clock, view: View, stop: Signal) -> bool:
    """Wait for the processes, bring the catalogue, and rehearse until all kernels are compiled; False: told to stop."""
    until = time.monotonic() + _PATIENCE
    steps: dict[str, Callable[[], bool]] = {
        "starting stream, learn and serve": lambda: place.client.get("/readyz").is_success,
        "putting the items on the shelves": lambda: _put_items(place.client, shop),
        "rehearsing with a visitor": lambda: rehearse(place.client, clock, _WARM),
    }
    for what, is_done in steps.items():
        begun = time.monotonic()
        while not _holds(is_done):
            view.starting(what, time.monotonic() - begun)
            place.tend()
            if time.monotonic() > until:
                raise NotRunning(f"not ready after {_PATIENCE:.0f} s ({what})")
            if stop.wait(0.2):
                return False
    return True


def _holds(is_done: Callable[[], bool]) -> bool:
    """Whether a step is done; a process that does not answer yet has not done it."""
    try:
        return is_done()
    except httpx.HTTPError:
        return False


def _put_items(client: httpx.Client, shop: Shop) -> bool:
    records = [*shop.records(), PROBE]
    for first in range(0, len(records), _ITEMS_AT_ONCE):
        client.post("/v1/items", json=records[first : first + _ITEMS_AT_ONCE]).raise_for_status()
    return True


def _watch(place: Place, traffic: Traffic, probe: Probe, story: Story, view: View, stop: Signal) -> None:
    """A sample a second, until the time is up or it is told to stop."""
    opened = time.monotonic()
    while story.seconds is None or story.elapsed < story.seconds:
        left = float("inf") if story.seconds is None else story.seconds - story.elapsed
        if stop.wait(min(left, max(0.0, opened + len(story.samples) - time.monotonic()))):
            return
        place.tend()
        with suppress(httpx.HTTPError):  # a process that was killed is back in a moment
            story.delays.append(probe.measure())
            story.glance = glance(place.client, place.learner)
        story.add(time.monotonic() - opened, traffic.totals())
        view.show(story)


def glance(client: httpx.Client, learner: str) -> Glance:
    """What serve says of its lag, and learn of its predictions."""
    lag = client.get("/v1/lag").raise_for_status().json()
    told = {
        sample.labels["measure"]: sample.value
        for family in text_string_to_metric_families(client.get(learner).text)
        for sample in family.samples
        if sample.name == "headrace_learn_progressive"
    }
    measures = {word: told[measure] for measure, word in _MEASURES.items() if measure in told}
    return Glance(lag["model_version"], lag["events"], measures)
