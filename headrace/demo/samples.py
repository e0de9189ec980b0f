"""What is remembered of a run of the demo: a sample a second of what was shown, clicked, and could have been."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

_RECENT_SAMPLES = 10  # samples that "now" is made of


@dataclass(slots=True)
class Totals:
    """Counted since the shop opened. What other slates would have earned is in expected clicks, on the same asks."""

    responses: int = 0
    events: int = 0  # what the shoppers sent, and one impression per answer
    slate_items: int = 0
    clicks: int = 0
    random: float = 0.0
    popular: float = 0.0
    best: float = 0.0
    failures: int = 0  # requests that were turned away, or found nobody

    def since(self, before: "Totals") -> "Totals":
        return Totals(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))

    def click_through(self, clicks: float) -> float:
        """Expected or real clicks per place shown."""
        return clicks / self.slate_items if self.slate_items else 0.0


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """What the processes said of themselves a moment ago."""

    version: str = ""
    lag_events: int = 0  # events that are not yet in the answers
    metrics: dict[str, float] = field(default_factory=dict)  # how good predictions made before learning are, by name


@dataclass(slots=True)
class DemoHistory:
    """The run so far, from when the shop opened."""

    url: str
    seconds: float | None  # None: until it is told to end
    times: list[float] = field(default_factory=lambda: [0.0])
    samples: list[Totals] = field(default_factory=lambda: [Totals()])
    delays: list[float] = field(default_factory=list)  # seconds from a click to an answer that knows of it
    status: StatusSnapshot = field(default_factory=StatusSnapshot)

    @property
    def elapsed(self) -> float:
        return self.times[-1]

    def add(self, elapsed: float, totals: Totals) -> None:
        self.times.append(elapsed)
        self.samples.append(totals)

    def total(self) -> Totals:
        return self.samples[-1]

    def recent(self) -> Totals:
        """What the last few seconds brought."""
        return self.total().since(self.samples[self._window_start()])

    def per_second(self, count: float) -> float:
        """A count of the last few seconds as a rate."""
        return count / max(1e-9, self.elapsed - self.times[self._window_start()])

    def delay_quantile(self, quantile: float) -> float | None:
        """Seconds from a click to a changed answer, over the last hundred that were measured."""
        return float(np.quantile(self.delays[-100:], quantile)) if self.delays else None

    def click_through_curve(self, points: int) -> list[float]:
        """Click-through over the whole run, in at most so many parts of equal length."""
        last = len(self.samples) - 1
        edges = np.linspace(0, last, min(points, last) + 1).astype(int).tolist()
        parts = [self.samples[b].since(self.samples[a]) for a, b in pairwise(edges)]
        return [part.click_through(part.clicks) for part in parts]

    def _window_start(self) -> int:
        return max(0, len(self.samples) - 1 - _RECENT_SAMPLES)
