"""Scenarios played to the live stream worker and the live learner, and what the guard made of them."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from online_models.worker import LearnWorker
from replay.simulation.scenarios import Event, Scenario, World, happen
from stream.alarms import Alarm, known_alarms
from stream.clock import ManualClock
from stream.config import Data, Events, Guard, Learn, Settings, Stream
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

_AT_ONCE, _LINGER_MS = 64, 60_000  # events between two steps, and how long fewer wait
_CALM = Scenario("calm", "clean", frozenset(), remembers=True)


@dataclass(slots=True)
class Trial:
    """What came of a scenario."""

    alarms: list[Alarm] = field(default_factory=list)
    rollbacks: int = 0
    held_at_end: bool = False
    before: int = 0  # alarms that were raised before anything happened
    delay: float | None = None  # minutes of event time from the beginning to the first alarm
    poisoned: int | None = None  # events of the scenario until then
    quarantined: int = 0

    @property
    def kinds(self) -> set[str]:
        return {alarm.kind for alarm in self.alarms[self.before :]}

    @property
    def detectors(self) -> set[str]:
        return {alarm.detector for alarm in self.alarms[self.before :]}


class Rig:
    """Stream and learn in one process over a log in memory, in event time."""

    def __init__(self, folder: Path, guard: Guard | None = None, window: float = 60.0, keep: int = 20) -> None:
        self.settings = Settings(
            data=Data(folder=folder),
            events=Events(max_age=0),
            stream=Stream(window=window),
            learn=Learn(checkpoint_every=300, keep=keep),
            guard=guard or Guard(),
        )
        self.clock = ManualClock(0)
        self.log, self.store = MemoryLog(clock=self.clock), MemoryStore()
        for topic in (EVENTS, EXAMPLES, USERS, ITEMS, MODEL_UPDATES, DEAD_LETTER, QUARANTINE, CONTROL, ALARMS):
            self.log.create(topic, 1)
        self.stream = StreamWorker(self.log, self.store, self.settings)
        self.stream.step(0)
        self.learn = LearnWorker(self.log, self.settings, self.clock)

    def put(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Put items into the catalogue."""
        self.log.append(ITEMS, 0, [(str(item["item_id"]).encode(), msgspec.json.encode(item)) for item in items])
        self.step()

    def send(self, events: Sequence[Event]) -> None:
        """Events, in the order given, one record each; what is shown was made by the version that there is now."""
        version = self.learn.version
        for event in events:
            if event["type"] == "impression":
                event["model_version"] = version
        self.append([(event["user_id"], event["ts"], msgspec.json.encode(event)) for event in events])

    def append(self, records: Iterable[tuple[str, int, bytes]]) -> None:
        chosen = list(records)
        latest = max(ts for _, ts, _ in chosen)
        self.clock.advance(max(0, latest - self.clock.now_ms()) / 1000)
        self.log.append(EVENTS, 0, [(user.encode(), value) for user, _, value in chosen])
        self.step()

    def step(self) -> None:
        self.stream.step(0)
        self.learn.step(0)

    def settle(self) -> None:
        """Step until nothing is left to do."""
        idle = 0
        while idle < 3:
            control = self.learn.progress.control
            idle = 0 if self.stream.step(0) + self.learn.step(0) or self.learn.progress.control != control else idle + 1

    def close(self) -> None:
        self.learn.close()
        self.stream.close()


class Shop:
    """A world whose events go to a rig as they happen."""

    def __init__(
        self, folder: Path, seed: int = 1, pace: float = 2.0, guard: Guard | None = None, window: float = 60.0
    ) -> None:
        self.rig = Rig(folder, guard, window)
        self._world = World(seed, pace)
        self.rig.put(self._world.shop.records())
        self._waiting: list[Event] = []
        self._sent = self._world.clock.now_ms()

    def open(self, minutes: float) -> None:
        """Go on as ever until it has been open so long; what it sends meanwhile may be sent again by a scenario."""
        for _, events in happen(self._world, _CALM, minutes, 0.0):
            self._take(events)

    def meet(self, scenario: Scenario, calm: float, length: float, linger: float = 1e9) -> Trial:
        """A scenario that begins when it has been open for `calm` minutes, until `linger` after the first alarm."""
        rig, trial = self.rig, self._play(scenario, calm, length, linger)
        rig.settle()
        trial.alarms = known_alarms(rig.log)
        trial.rollbacks = rig.learn.progress.epoch - 1
        trial.held_at_end = rig.learn._hold is not None
        trial.quarantined = rig.log.end(QUARANTINE, 0)
        return trial

    def _play(self, scenario: Scenario, calm: float, length: float, linger: float) -> Trial:
        trial, began, sent, log = Trial(), 0, 0, self.rig.log
        for on, events in happen(self._world, scenario, calm, length):
            if on and not began:
                began, trial.before = self._world.began, log.end(ALARMS, 0)
            sent += len(events) if on else 0
            now = self._take(events)
            if now is None:
                continue
            if began and trial.delay is None and log.end(ALARMS, 0) > trial.before:
                trial.delay, trial.poisoned = (now - began) / 60_000, sent
            if trial.delay is not None and now > began + (trial.delay + linger) * 60_000:
                break
        if not began:
            trial.before = log.end(ALARMS, 0)
        return trial

    def _take(self, events: list[Event]) -> int | None:
        """The event time up to which all was sent, or None while these still wait for more."""
        if self._world.told:
            self.rig.put(self._world.told)
            self._world.told = []
        self._waiting += events
        now = self._world.clock.now_ms()
        if not self._waiting or (len(self._waiting) < _AT_ONCE and now < self._sent + _LINGER_MS):
            return None
        sent, self._waiting, self._sent = self._waiting, [], now
        self.rig.send(sent)
        latest: int = max(event["ts"] for event in sent)
        return latest


def try_out(
    scenario: Scenario, seed: int = 1, pace: float = 2.0, calm: float = 40.0, length: float = 30.0,
    guard: Guard | None = None, linger: float = 1e9, window: float = 60.0,
) -> Trial:  # fmt: skip
    """Play a scenario, until so long after the first alarm; times in minutes, but for the window in seconds.

    `pace` is in visits a second.
    """
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), seed, pace, guard, window)
        trial = shop.meet(scenario, calm, length, linger)
        shop.rig.close()
    return trial
