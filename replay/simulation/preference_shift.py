"""Measure how soon live slates follow shoppers whose preferences change at a known time."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from replay.simulation.closed_loop import ClosedLoop
from replay.simulation.simulator import make_population, make_shop
from stream.alarms import Alarm, read_alarms
from stream.clock import MINUTE_MS
from stream.config import GuardSettings, ServeSettings

_START_MS = 1_767_225_600_000
Intervention = Callable[[ClosedLoop], None]


@dataclass(frozen=True, slots=True)
class ShopSettings:
    """Size of the simulation; times in minutes."""

    items: int = 1_000
    shoppers: int = 300
    visits_per_second: float = 2.0
    warmup: float = 40.0  # before the shift
    duration: float = 25.0  # after the shift
    slate_size: int = 10
    has_shift: bool = True


@dataclass(slots=True)
class ShiftResult:
    """Results by minute from the start."""

    warmup: float
    slate_items: np.ndarray  # (minutes,)
    clicks: np.ndarray  # (minutes,)
    best_clicks: np.ndarray  # (minutes,) expected clicks of the best slates
    alarms: list[Alarm] = field(default_factory=list)
    rollbacks: int = 0

    def click_through(self, first: float, last: float) -> float:
        """Clicks per slate item between two minutes after the shift."""
        span = slice(int(self.warmup + first), int(self.warmup + last))
        return float(self.clicks[span].sum() / self.slate_items[span].sum())

    def alarm_delays(self, detector: str | None = None) -> list[float]:
        """Alarm times in minutes after the shift, of one detector or of all."""
        return [
            (alarm.ts - _START_MS) / MINUTE_MS - self.warmup
            for alarm in self.alarms
            if alarm.detector == (detector or alarm.detector)
        ]


def run_shift(
    seed: int,
    guard: GuardSettings,
    settings: ShopSettings | None = None,
    intervention: Intervention | None = None,
    intervention_delay: float = 5.0,
) -> ShiftResult:
    """Run the simulation, with `intervention` `intervention_delay` minutes after the warmup."""
    settings = settings or ShopSettings()
    rng = np.random.default_rng(seed)
    shop = make_shop(settings.items, _START_MS, rng)
    population_before, population_after = (make_population(settings.shoppers, rng) for _ in range(2))
    minutes = int(np.ceil(settings.warmup + settings.duration))
    result = ShiftResult(settings.warmup, np.zeros(minutes), np.zeros(minutes), np.zeros(minutes))
    schedule = [(settings.warmup + intervention_delay, intervention)] if intervention else []
    if settings.has_shift:
        schedule.append((settings.warmup, lambda loop: loop.simulator.switch_population(population_after)))
    schedule.sort(key=lambda entry: -entry[0])
    with tempfile.TemporaryDirectory() as folder:
        loop = ClosedLoop(
            Path(folder), shop, population_before, _START_MS, ServeSettings(), seed,
            visits_per_second=settings.visits_per_second, guard=guard,
        )  # fmt: skip
        loop.put_items(shop.records())
        while (minute := (loop.system.clock.now_ms() - _START_MS) / MINUTE_MS) < minutes:
            while schedule and minute >= schedule[-1][0]:
                schedule.pop()[1](loop)
            _visit(loop, settings.slate_size, result, int(minute))
        result.alarms, result.rollbacks = read_alarms(loop.system.log), loop.system.learn_worker.progress.epoch - 1
        loop.close()
    return result


def _visit(loop: ClosedLoop, slate_size: int, result: ShiftResult, minute: int) -> None:
    visit = loop.visit(slate_size)
    result.slate_items[minute] += slate_size
    result.clicks[minute] += len(visit.clicked_positions)
    result.best_clicks[minute] += slate_size * loop.simulator.expected_ctr(visit.shopper, slate_size).best
