"""Shoppers whose tastes change at a known time, before the live processes: how soon what is shown follows them."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from replay.simulation.closed_loop import ClosedLoop
from replay.simulation.simulator import make_crowd, make_shop
from stream.alarms import Alarm, known_alarms
from stream.config import Guard, Serve

_NOW = 1_767_225_600_000
_MINUTE = 60_000
Act = Callable[[ClosedLoop], None]


@dataclass(frozen=True, slots=True)
class Shopping:
    """A shop, and how long it goes on before and after; times in minutes."""

    items: int = 1_000
    shoppers: int = 300
    pace: float = 2.0  # visits a second
    calm: float = 40.0
    length: float = 25.0
    places: int = 10
    changes: bool = True  # whether tastes change after the calm


@dataclass(slots=True)
class Followed:
    """What came of it, by minute from the first on."""

    calm: float
    shown: np.ndarray  # (minutes,) places
    clicks: np.ndarray  # (minutes,)
    open_to: np.ndarray  # (minutes,) clicks that the best slates would have earned, by the truth
    alarms: list[Alarm] = field(default_factory=list)
    rollbacks: int = 0

    def click_through(self, first: float, last: float) -> float:
        """Clicks per place shown, of minutes since the change."""
        span = slice(int(self.calm + first), int(self.calm + last))
        return float(self.clicks[span].sum() / self.shown[span].sum())

    def noticed(self, detector: str | None = None) -> list[float]:
        """Minutes since the change of the alarms of a detector, or of any."""
        return [
            (alarm.ts - _NOW) / _MINUTE - self.calm
            for alarm in self.alarms
            if alarm.detector == (detector or alarm.detector)
        ]


def follow(
    seed: int, guard: Guard, shopping: Shopping | None = None, act: Act | None = None, after: float = 5.0
) -> Followed:
    """Play it; `act` is done by hand so many minutes after the change, or after when it would have been."""
    shopping = shopping or Shopping()
    rng = np.random.default_rng(seed)
    shop = make_shop(shopping.items, _NOW, rng)
    before, behind = make_crowd(shopping.shoppers, rng), make_crowd(shopping.shoppers, rng)
    minutes = int(np.ceil(shopping.calm + shopping.length))
    told = Followed(shopping.calm, np.zeros(minutes), np.zeros(minutes), np.zeros(minutes))
    due = [(shopping.calm + after, act)] if act else []
    if shopping.changes:
        due.append((shopping.calm, lambda loop: loop.simulator.become(behind)))
    due.sort(key=lambda one: -one[0])
    with tempfile.TemporaryDirectory() as folder:
        loop = ClosedLoop(Path(folder), shop, before, _NOW, Serve(), seed, pace=shopping.pace, guard=guard)
        loop.put(shop.records())
        while (minute := (loop.rig.clock.now_ms() - _NOW) / _MINUTE) < minutes:
            while due and minute >= due[-1][0]:
                due.pop()[1](loop)
            _visit(loop, shopping.places, told, int(minute))
        told.alarms, told.rollbacks = known_alarms(loop.rig.log), loop.rig.learn.progress.epoch - 1
        loop.close()
    return told


def _visit(loop: ClosedLoop, places: int, told: Followed, minute: int) -> None:
    visit = loop.visit(places)
    told.shown[minute] += places
    told.clicks[minute] += len(visit.clicks)
    told.open_to[minute] += places * loop.simulator.expected(visit.shopper, places).best
