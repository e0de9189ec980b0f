"""`headrace demo`: run the three processes with simulated shoppers, and show the results."""

import logging
import os
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Signal
from threading import Thread

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from headrace.client import Client, ClientError, ClientSettings
from headrace.demo.samples import DemoHistory, StatusSnapshot
from headrace.demo.traffic import PROBE_ITEM, FreshnessProbe, Traffic, warm_up
from headrace.demo.view import LineView, LiveView, View, render_summary
from headrace.supervisor import ProcessSupervisor
from replay.simulation.simulator import Shop, Simulator, make_population, make_shop
from stream.clock import Clock, SystemClock
from stream.process.signals import stop_on_signals

_ITEMS_PER_REQUEST = 1000
_PORTS = {"HEADRACE_SERVE__PORT": 8000, "HEADRACE_STREAM__METRICS_PORT": 9101, "HEADRACE_LEARN__METRICS_PORT": 9102}
_SETTINGS = {
    "HEADRACE_LOG__URL": "",
    "HEADRACE_STORE__URL": "",
    "HEADRACE_SERVE__HOST": "127.0.0.1",
    "HEADRACE_SERVE__INGEST_KEY": "",
    "HEADRACE_SERVE__RECOMMEND_KEY": "",
    "HEADRACE_STREAM__ATTRIBUTION_WINDOW": "5",  # slates without a click become training data within the demo
    "HEADRACE_STREAM__ALLOWED_LATENESS": "1",
}
_METRIC_LABELS = {"headrace_learn_log_loss": "log loss", "headrace_learn_auc": "AUC"}


class StartupFailed(Exception):
    """The processes do not start, or do not stay up."""


@dataclass(frozen=True, slots=True)
class DemoTimeouts:
    """Patience of the demo."""

    startup_s: float = 300.0  # until the processes are warm; the first start compiles the kernels
    warm_visit_s: float = 2.0  # longest visit once nothing is left to compile
    startup_poll_s: float = 0.2
    metrics_s: float = 10.0  # one read of the learner's metrics


@dataclass(frozen=True)
class Deployment:
    """Processes of the demo and their addresses."""

    client: Client
    learner_metrics_url: str
    supervisor: ProcessSupervisor
    timeouts: DemoTimeouts = DemoTimeouts()

    def check(self) -> None:
        """Raise StartupFailed if one of the processes ends each time it is started."""
        if verb := self.supervisor.crash_looping():
            raise StartupFailed(f"{verb} dies each time it is started")


def run_demo(seconds: float | None, shoppers: int, items: int, seed: int, plain: bool) -> int:
    """Run for so many seconds, or until a signal; returns 0, or 1 if the processes do not run."""
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
        console.print(f"headrace: {error}; the log of the processes is in {log_path}", soft_wrap=True)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len(history.samples) > 1:
        console.print(render_summary(history))
    return 0


def _run(
    folder: Path, simulator: Simulator, clock: Clock, seconds: float | None, view: View, stop: Signal
) -> DemoHistory:
    """Start → warm up → shop → stop."""
    ports = {name: os.environ.get(name) or str(_find_free_port(port)) for name, port in _PORTS.items()}
    environ = {"HEADRACE_DATA__FOLDER": str(folder), **_SETTINGS, **ports}
    url = f"http://127.0.0.1:{ports['HEADRACE_SERVE__PORT']}"
    history = DemoHistory(url, seconds)
    with (
        (folder / "demo.log").open("wb") as output,
        ProcessSupervisor(environ=environ, output=output) as supervisor,
        _restart_in_background(supervisor),
        Client(url, settings=ClientSettings(max_retries=0)) as client,
        view,
    ):
        logging.basicConfig(filename=folder / "demo.log", format="%(asctime)s demo   %(message)s", force=True)
        deployment = Deployment(client, f"http://127.0.0.1:{ports['HEADRACE_LEARN__METRICS_PORT']}/metrics", supervisor)
        if _start_up(deployment, simulator.shop, clock, view, stop):
            with Traffic(url, simulator) as traffic:
                _record_samples(deployment, traffic, FreshnessProbe(client, clock), history, view, stop)
    return history


@contextmanager
def _restart_in_background(supervisor: ProcessSupervisor) -> Iterator[None]:
    """Restart ended processes from a thread: a probe may block longer than a crash takes."""
    stop = Signal()
    thread = Thread(target=supervisor.run, args=(stop,), name="supervisor")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _find_free_port(preferred: int) -> int:
    """Return the preferred port of this machine if it is free, else another free one."""
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
    """Wait for the processes, load the catalog and compile all kernels; False if stopped."""
    client, timeouts = deployment.client, deployment.timeouts
    deadline = time.monotonic() + timeouts.startup_s
    steps: dict[str, Callable[[], bool]] = {
        "starting stream, learn and serve": client.is_ready,
        "loading the catalog": lambda: _put_items(client, shop),
        "warming up with a simulated visit": lambda: warm_up(client, clock, timeouts.warm_visit_s),
    }
    for step, is_done in steps.items():
        started = time.monotonic()
        while not _is_step_done(is_done):
            view.show_startup(step, time.monotonic() - started)
            deployment.check()
            if time.monotonic() > deadline:
                raise StartupFailed(f"not ready after {timeouts.startup_s:.0f} s ({step})")
            if stop.wait(timeouts.startup_poll_s):
                return False
    return True


def _is_step_done(is_done: Callable[[], bool]) -> bool:
    """Return True if the step is done; without a response from the server it is not."""
    try:
        return is_done()
    except ClientError:
        return False


def _put_items(client: Client, shop: Shop) -> bool:
    records = [*shop.records(), PROBE_ITEM]
    for first in range(0, len(records), _ITEMS_PER_REQUEST):
        client.put_items(records[first : first + _ITEMS_PER_REQUEST])
    return True


def _record_samples(
    deployment: Deployment, traffic: Traffic, probe: FreshnessProbe, history: DemoHistory, view: View, stop: Signal
) -> None:
    """Record one sample per second until the time is up or the demo is stopped."""
    started = time.monotonic()
    while not history.is_complete:
        remaining = float("inf") if history.seconds is None else history.seconds - history.elapsed
        if stop.wait(min(remaining, max(0.0, started + len(history.samples) - time.monotonic()))):
            return
        deployment.check()
        with suppress(ClientError, OSError):  # a process that has ended restarts soon
            history.delays.append(probe.measure())
            history.status = scrape_status(deployment)
        history.add(time.monotonic() - started, traffic.totals())
        view.show(history)


def scrape_status(deployment: Deployment) -> StatusSnapshot:
    """Read the lag from serve and the prediction quality from learn."""
    lag = deployment.client.lag()
    with urllib.request.urlopen(deployment.learner_metrics_url, timeout=deployment.timeouts.metrics_s) as page:
        text = page.read().decode()
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in _METRIC_LABELS
    }
    metrics = {label: values[metric] for metric, label in _METRIC_LABELS.items() if metric in values}
    return StatusSnapshot(lag.model_version, lag.events, metrics)
