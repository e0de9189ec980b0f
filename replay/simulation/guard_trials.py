"""Scenarios played to the live stream worker and the live learner, and what the guard made of them."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from online_models.worker import LearnWorker
from replay.simulation.scenarios import EventDict, Scenario, World, run_in_world
from stream.alarms import Alarm, read_alarms
from stream.clock import ManualClock
from stream.config import DataSettings, EventsSettings, GuardSettings, LearnSettings, Settings, StreamSettings
from stream.testing import MemoryLog, MemoryStore
from stream.topics import (
    ALARMS,
    CONTROL,
    DEAD_LETTER,
    EVENTS,
    EXAMPLES,
    ITEMS,
    MODEL_UPDATES,
    QUARANTINE,
    USERS,
)
from stream.worker.worker import StreamWorker

_BATCH_SIZE, _LINGER_MS = 64, 60_000  # events between two steps, and how long fewer wait
_WARMUP = Scenario("calm", "clean", frozenset(), needs_history=True)


@dataclass(slots=True)
class TrialResult:
    """What came of a scenario."""

    alarms: list[Alarm] = field(default_factory=list)
    rollbacks: int = 0
    is_paused_at_end: bool = False
    alarms_before: int = 0  # alarms that were raised before anything happened
    delay_minutes: float | None = None  # minutes of event time from the beginning to the first alarm
    n_poisoned: int | None = None  # events of the scenario until then
    n_quarantined: int = 0

    @property
    def kinds(self) -> set[str]:
        return {alarm.kind for alarm in self.alarms[self.alarms_before :]}

    @property
    def detectors(self) -> set[str]:
        return {alarm.detector for alarm in self.alarms[self.alarms_before :]}


class InProcessSystem:
    """Stream and learn in one process over a log in memory, in event time."""

    def __init__(
        self,
        folder: Path,
        guard: GuardSettings | None = None,
        attribution_window: float = 60.0,
        checkpoints_kept: int = 20,
    ) -> None:
        self.settings = Settings(
            data=DataSettings(folder=folder),
            events=EventsSettings(max_age=0),
            stream=StreamSettings(attribution_window=attribution_window),
            learn=LearnSettings(checkpoint_every=300, checkpoints_kept=checkpoints_kept),
            guard=guard or GuardSettings(),
        )
        self.clock = ManualClock(0)
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore()
        for topic in (EVENTS, EXAMPLES, USERS, ITEMS, MODEL_UPDATES, DEAD_LETTER, QUARANTINE, CONTROL, ALARMS):
            self.log.create(topic, 1)
        self.stream_worker = StreamWorker(self.log, self.store, self.settings)
        self.stream_worker.step(0)
        self.learn_worker = LearnWorker(self.log, self.settings, self.clock)

    def put_items(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Put items into the catalogue."""
        self.log.append(ITEMS, 0, [(str(item["item_id"]).encode(), msgspec.json.encode(item)) for item in items])
        self.step()

    def send_events(self, events: Sequence[EventDict]) -> None:
        """Events, in the order given, one record each; what is shown was made by the version that there is now."""
        version = self.learn_worker.version
        for event in events:
            if event["type"] == "impression":
                event["model_version"] = version
        self.append([(event["user_id"], event["ts"], msgspec.json.encode(event)) for event in events])

    def append(self, records: Iterable[tuple[str, int, bytes]]) -> None:
        batch = list(records)
        latest = max(ts for _, ts, _ in batch)
        self.clock.advance(max(0, latest - self.clock.now_ms()) / 1000)
        self.log.append(EVENTS, 0, [(user.encode(), value) for user, _, value in batch])
        self.step()

    def step(self) -> None:
        self.stream_worker.step(0)
        self.learn_worker.step(0)

    def run_until_idle(self) -> None:
        """Step until nothing is left to do."""
        idle = 0
        while idle < 3:
            control = self.learn_worker.progress.control_offset
            idle = (
                0
                if self.stream_worker.step(0) + self.learn_worker.step(0)
                or self.learn_worker.progress.control_offset != control
                else idle + 1
            )

    def close(self) -> None:
        self.learn_worker.close()
        self.stream_worker.close()


class TrialRunner:
    """A world whose events go to a rig as they happen."""

    def __init__(
        self,
        folder: Path,
        seed: int = 1,
        visits_per_second: float = 2.0,
        guard: GuardSettings | None = None,
        attribution_window: float = 60.0,
    ) -> None:
        self.system = InProcessSystem(folder, guard, attribution_window)
        self._world = World(seed, visits_per_second)
        self.system.put_items(self._world.shop.records())
        self._pending: list[EventDict] = []
        self._last_send_ms = self._world.clock.now_ms()

    def run_warmup(self, minutes: float) -> None:
        """Go on as ever until it has been open so long; what it sends meanwhile may be sent again by a scenario."""
        for _, events in run_in_world(self._world, _WARMUP, minutes, 0.0):
            self._send_when_due(events)

    def run(self, scenario: Scenario, warmup: float, duration: float, linger: float = 1e9) -> TrialResult:
        """A scenario that begins when it has been open for `calm` minutes, until `linger` after the first alarm."""
        system, result = self.system, self._run_scenario(scenario, warmup, duration, linger)
        system.run_until_idle()
        result.alarms = read_alarms(system.log)
        result.rollbacks = system.learn_worker.progress.epoch - 1
        result.is_paused_at_end = system.learn_worker._pause is not None
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
                result.delay_minutes, result.n_poisoned = (now - start_ms) / 60_000, n_sent
            if result.delay_minutes is not None and now > start_ms + (result.delay_minutes + linger) * 60_000:
                break
        if not start_ms:
            result.alarms_before = log.end_offset(ALARMS, 0)
        return result

    def _send_when_due(self, events: list[EventDict]) -> int | None:
        """The event time up to which all was sent, or None while these still wait for more."""
        if self._world.catalog_updates:
            self.system.put_items(self._world.catalog_updates)
            self._world.catalog_updates = []
        self._pending += events
        now = self._world.clock.now_ms()
        if not self._pending or (len(self._pending) < _BATCH_SIZE and now < self._last_send_ms + _LINGER_MS):
            return None
        batch, self._pending, self._last_send_ms = self._pending, [], now
        self.system.send_events(batch)
        latest: int = max(event["ts"] for event in batch)
        return latest


def run_trial(
    scenario: Scenario, seed: int = 1, visits_per_second: float = 2.0, warmup: float = 40.0, duration: float = 30.0,
    guard: GuardSettings | None = None, linger: float = 1e9, attribution_window: float = 60.0,
) -> TrialResult:  # fmt: skip
    """Play a scenario, until so long after the first alarm; times in minutes, but for the window in seconds.

    `pace` is in visits a second.
    """
    with tempfile.TemporaryDirectory() as folder:
        runner = TrialRunner(Path(folder), seed, visits_per_second, guard, attribution_window)
        result = runner.run(scenario, warmup, duration, linger)
        runner.system.close()
    return result
