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

from headrace.demo.samples import DemoHistory, StatusSnapshot
from headrace.demo.traffic import PROBE_ITEM, FreshnessProbe, Traffic, warm_up
from headrace.demo.view import LineView, LiveView, View, render_summary
from headrace.supervisor import ProcessSupervisor
from replay.simulation.simulator import Shop, Simulator, make_population, make_shop
from stream.clock import Clock, SystemClock
from stream.process import stop_on_signals

_REQUESTS_PER_SECOND = 300.0  # answers a second at most
_STARTUP_TIMEOUT_S = 300.0  # seconds until the processes are warm; the first time they compile their kernels
_WARM_VISIT_S = 2.0  # seconds that a rehearsal takes at most when nothing is left to compile
_ITEMS_PER_REQUEST = 1000
_PORTS = {"HEADRACE_SERVE__PORT": 8000, "HEADRACE_STREAM__METRICS_PORT": 9101, "HEADRACE_LEARN__METRICS_PORT": 9102}
_SETTINGS = {
    "HEADRACE_LOG__URL": "",
    "HEADRACE_STORE__URL": "",
    "HEADRACE_SERVE__HOST": "127.0.0.1",
    "HEADRACE_STREAM__ATTRIBUTION_WINDOW": "5",  # a slate that nobody clicked is known as such within the demo
    "HEADRACE_STREAM__ALLOWED_LATENESS": "1",
}
_METRIC_LABELS = {"headrace_learn_log_loss": "log loss", "headrace_learn_auc": "AUC"}


class StartupFailed(Exception):
    """The processes do not come up, or do not stay up."""


@dataclass(frozen=True)
class Deployment:
    """Where the demo's processes are to be found."""

    client: httpx.Client  # of serve
    learner_metrics_url: str  # the page of learn's metrics
    supervisor: ProcessSupervisor

    def restart_dead(self) -> None:
        """Keep the processes up; NotRunning if one of them cannot be."""
        self.supervisor.restart_dead()
        if verb := self.supervisor.crash_looping():
            raise StartupFailed(f"{verb} dies each time it is started")


def run_demo(seconds: float | None, shoppers: int, items: int, seed: int, plain: bool) -> int:
    """Run until told to stop, or for so many seconds of shopping; 0, or 1 when the processes would not run."""
    console, clock, stop = Console(), SystemClock(), stop_on_signals()
    rng = np.random.default_rng(seed)
    simulator = Simulator(make_shop(items, clock.now_ms(), rng), make_population(shoppers, rng), clock, rng)
    view = LineView(console) if plain or not console.is_terminal else LiveView(console)
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    try:
        history = _run(folder, simulator, clock, seconds, view, stop)
    except StartupFailed as error:
        log_path = Path(tempfile.mkdtemp(prefix="headrace-demo-failed-")) / "demo.log"
        shutil.move(folder / "demo.log", log_path)
        console.print(f"headrace: {error}; what the processes said is in {log_path}", soft_wrap=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len(history.samples) > 1:
        console.print(render_summary(history))
    return 0


def _run(
    folder: Path, simulator: Simulator, clock: Clock, seconds: float | None, view: View, stop: Signal
) -> DemoHistory:
    """start → warm up → shop → stop."""
    ports = {name: os.environ.get(name) or str(_find_free_port(port)) for name, port in _PORTS.items()}
    url = f"http://127.0.0.1:{ports['HEADRACE_SERVE__PORT']}"
    history = DemoHistory(url, seconds)
    with (
        (folder / "demo.log").open("wb") as output,
        ProcessSupervisor(
            environ={"HEADRACE_DATA__FOLDER": str(folder), **_SETTINGS, **ports}, output=output
        ) as supervisor,
        httpx.Client(base_url=url, timeout=10.0) as client,
        view,
    ):
        logging.basicConfig(filename=folder / "demo.log", format="%(asctime)s demo   %(message)s", force=True)
        deployment = Deployment(client, f"http://127.0.0.1:{ports['HEADRACE_LEARN__METRICS_PORT']}/metrics", supervisor)
        if _start_up(deployment, simulator.shop, clock, view, stop):
            with Traffic(url, simulator, _REQUESTS_PER_SECOND) as traffic:
                _record_samples(deployment, traffic, FreshnessProbe(client, clock), history, view, stop)
    return history


def _find_free_port(preferred: int) -> int:
    """The preferred port of this machine if nobody has it, else one that is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _start_up(deployment: Deployment, shop: Shop, clock: Clock, view: View, stop: Signal) -> bool:
    """Wait for the processes, bring the catalogue, and rehearse until all kernels are compiled; False: told to stop."""
    deadline = time.monotonic() + _STARTUP_TIMEOUT_S
    steps: dict[str, Callable[[], bool]] = {
        "starting stream, learn and serve": lambda: deployment.client.get("/readyz").is_success,
        "putting the items on the shelves": lambda: _put_items(deployment.client, shop),
        "rehearsing with a visitor": lambda: warm_up(deployment.client, clock, _WARM_VISIT_S),
    }
    for step, is_done in steps.items():
        started = time.monotonic()
        while not _is_step_done(is_done):
            view.show_startup(step, time.monotonic() - started)
            deployment.restart_dead()
            if time.monotonic() > deadline:
                raise StartupFailed(f"not ready after {_STARTUP_TIMEOUT_S:.0f} s ({step})")
            if stop.wait(0.2):
                return False
    return True


def _is_step_done(is_done: Callable[[], bool]) -> bool:
    """Whether a step is done; a process that does not answer yet has not done it."""
    try:
        return is_done()
    except httpx.HTTPError:
        return False


def _put_items(client: httpx.Client, shop: Shop) -> bool:
    records = [*shop.records(), PROBE_ITEM]
    for first in range(0, len(records), _ITEMS_PER_REQUEST):
        client.post("/v1/items", json=records[first : first + _ITEMS_PER_REQUEST]).raise_for_status()
    return True


def _record_samples(
    deployment: Deployment, traffic: Traffic, probe: FreshnessProbe, history: DemoHistory, view: View, stop: Signal
) -> None:
    """A sample a second, until the time is up or it is told to stop."""
    started = time.monotonic()
    while history.seconds is None or history.elapsed < history.seconds:
        remaining = float("inf") if history.seconds is None else history.seconds - history.elapsed
        if stop.wait(min(remaining, max(0.0, started + len(history.samples) - time.monotonic()))):
            return
        deployment.restart_dead()
        with suppress(httpx.HTTPError):  # a process that was killed is back in a moment
            history.delays.append(probe.measure())
            history.status = scrape_status(deployment.client, deployment.learner_metrics_url)
        history.add(time.monotonic() - started, traffic.totals())
        view.show(history)


def scrape_status(client: httpx.Client, learner_metrics_url: str) -> StatusSnapshot:
    """What serve says of its lag, and learn of its predictions."""
    lag = client.get("/v1/lag").raise_for_status().json()
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(client.get(learner_metrics_url).text)
        for sample in family.samples
        if sample.name in _METRIC_LABELS
    }
    metrics = {label: values[metric] for metric, label in _METRIC_LABELS.items() if metric in values}
    return StatusSnapshot(lag["model_version"], lag["events"], metrics)
