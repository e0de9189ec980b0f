"""Guard trials: run scenarios through the live stream and learn code; record the alarms."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from online_models.worker import LearnWorker
from replay.simulation.scenarios import EventDict, Scenario, World, run_in_world
from stream.alarms import Alarm, read_alarms
from stream.clock import MINUTE_MS
from stream.config import DataSettings, EventsSettings, GuardSettings, LearnSettings, Settings, StreamSettings
from stream.testing import memory_system
from stream.topics import ALARMS, EVENTS, ITEMS, QUARANTINE
from stream.worker.worker import StreamWorker

_BATCH_SIZE, _MAX_WAIT_MS = 64, MINUTE_MS  # events per step, and the longest wait for them in event time
_WARMUP = Scenario("warmup", "clean", frozenset(), needs_history=True)


@dataclass(slots=True)
class TrialResult:
    """Alarms and remedies during a scenario."""

    alarms: list[Alarm] = field(default_factory=list)
    rollbacks: int = 0
    is_paused_at_end: bool = False
    alarms_before: int = 0  # alarms raised before the scenario started
    delay_minutes: float | None = None  # event time from the start to the first alarm
    n_poisoned: int | None = None  # events of the scenario until the first alarm
    n_quarantined: int = 0

    @property
    def kinds(self) -> set[str]:
        return {alarm.kind for alarm in self.alarms[self.alarms_before :]}

    @property
    def detectors(self) -> set[str]:
        return {alarm.detector for alarm in self.alarms[self.alarms_before :]}


class InProcessSystem:
    """The live stream worker and learner in one process, over a log in memory and in event time."""

    def __init__(
        self, folder: Path, guard: GuardSettings | None = None, *, attribution_window: float = 60.0,
        checkpoints_kept: int = 20,
    ) -> None:  # fmt: skip
        self.settings = Settings(
            data=DataSettings(folder=folder),
            events=EventsSettings(max_age=0),
            stream=StreamSettings(attribution_window=attribution_window),
            learn=LearnSettings(checkpoint_every=300, checkpoints_kept=checkpoints_kept),
            guard=guard or GuardSettings(),
        )
        self.log, self.store, self.clock = memory_system()
        self.stream_worker = StreamWorker(self.log, self.store, self.settings)
        self.stream_worker.step(0)
        self.learn_worker = LearnWorker(self.log, self.settings, self.clock)

    def put_items(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Add items to the catalog."""
        self.log.append(ITEMS, 0, [(str(item["item_id"]).encode(), msgspec.json.encode(item)) for item in items])
        self.step()

    def send_events(self, events: Sequence[EventDict]) -> None:
        """Send events in this order, one record each; impressions get the current model version."""
        version = self.learn_worker.version
        for event in events:
            if event["type"] == "impression":
                event["model_version"] = version
        self.append([(event["user_id"], event["ts"], msgspec.json.encode(event)) for event in events])

    def append(self, records: Iterable[tuple[str, int, bytes]]) -> None:
        """Append (user id, timestamp in ms, event) records, advance the clock to them and step."""
        batch = list(records)
        latest = max(ts for _, ts, _ in batch)
        self.clock.advance(max(0, latest - self.clock.now_ms()) / 1000)
        self.log.append(EVENTS, 0, [(user.encode(), value) for user, _, value in batch])
        self.step()

    def step(self) -> None:
        self.stream_worker.step(0)
        self.learn_worker.step(0)

    def run_until_idle(self) -> None:
        """Step until there is nothing left to do."""
        n_idle = 0
        while n_idle < 3:
            control_offset = self.learn_worker.progress.control_offset
            n_done = self.stream_worker.step(0) + self.learn_worker.step(0)
            is_idle = n_done == 0 and self.learn_worker.progress.control_offset == control_offset
            n_idle = n_idle + 1 if is_idle else 0

    def close(self) -> None:
        self.learn_worker.close()
        self.stream_worker.close()


class TrialRunner:
    """Send the events of a simulated world to an in-process system."""

    def __init__(
        self, folder: Path, seed: int = 1, *, visits_per_second: float = 2.0, guard: GuardSettings | None = None,
        attribution_window: float = 60.0,
    ) -> None:  # fmt: skip
        self.system = InProcessSystem(folder, guard, attribution_window=attribution_window)
        self._world = World(seed, visits_per_second)
        self.system.put_items(self._world.shop.records())
        self._pending: list[EventDict] = []
        self._last_send_ms = self._world.clock.now_ms()

    def run_warmup(self, minutes: float) -> None:
        """Run without a scenario until `minutes` after the start; scenarios may resend these events."""
        for _, events in run_in_world(self._world, _WARMUP, minutes, 0.0):
            self._send_when_due(events)

    def run(self, scenario: Scenario, warmup: float, duration: float, linger: float = 1e9) -> TrialResult:
        """Run a scenario from minute `warmup` until `linger` minutes after the first alarm."""
        system, result = self.system, self._run_scenario(scenario, warmup, duration, linger)
        system.run_until_idle()
        result.alarms = read_alarms(system.log)
        result.rollbacks = system.learn_worker.progress.epoch - 1
        result.is_paused_at_end = system.learn_worker.pause is not None
        result.n_quarantined = system.log.end_offset(QUARANTINE, 0)
        return result

    def _run_scenario(self, scenario: Scenario, warmup: float, duration: float, linger: float) -> TrialResult:
        result, start_ms, n_sent, log = TrialResult(), 0, 0, self.system.log
        for is_active, events in run_in_world(self._world, scenario, warmup, duration):
            if is_active and not start_ms:
                start_ms, result.alarms_before = self._world.start_ms, log.end_offset(ALARMS, 0)
            n_sent += len(events) if is_active else 0
            now = self._send_when_due(events)
            if now is None:
                continue
            if start_ms and result.delay_minutes is None and log.end_offset(ALARMS, 0) > result.alarms_before:
                result.delay_minutes, result.n_poisoned = (now - start_ms) / MINUTE_MS, n_sent
            if result.delay_minutes is not None and now > start_ms + (result.delay_minutes + linger) * MINUTE_MS:
                break
        if not start_ms:
            result.alarms_before = log.end_offset(ALARMS, 0)
        return result

    def _send_when_due(self, events: list[EventDict]) -> int | None:
        """Return the event time of the last event sent, or None while events wait for a full batch."""
        if self._world.catalog_updates:
            self.system.put_items(self._world.catalog_updates)
            self._world.catalog_updates = []
        self._pending += events
        now = self._world.clock.now_ms()
        if not self._pending or (len(self._pending) < _BATCH_SIZE and now < self._last_send_ms + _MAX_WAIT_MS):
            return None
        batch, self._pending, self._last_send_ms = self._pending, [], now
        self.system.send_events(batch)
        latest: int = max(event["ts"] for event in batch)
        return latest


def run_trial(
    scenario: Scenario, seed: int = 1, *, visits_per_second: float = 2.0, warmup: float = 40.0, duration: float = 30.0,
    guard: GuardSettings | None = None, linger: float = 1e9, attribution_window: float = 60.0,
) -> TrialResult:  # fmt: skip
    """Run a scenario in a new system until `linger` minutes after the first alarm.

    Times are in minutes, `attribution_window` is in seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        runner = TrialRunner(
            Path(folder), seed, visits_per_second=visits_per_second, guard=guard, attribution_window=attribution_window
        )
        result = runner.run(scenario, warmup, duration, linger)
        runner.system.close()
    return result
