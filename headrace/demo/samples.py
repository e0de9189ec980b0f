"""History of a demo run: one sample per second of slates, clicks and expected clicks."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

_RECENT_SAMPLES = 10  # samples in the moving window
_DELAY_SAMPLES = 100  # delays in the quantiles


@dataclass(slots=True)
class Totals:
    """Totals since the start. `random`, `popular`, `best`: expected clicks of other slates."""

    responses: int = 0
    events: int = 0  # sent by the shoppers, plus one impression per response
    slate_items: int = 0
    clicks: int = 0
    random: float = 0.0
    popular: float = 0.0
    best: float = 0.0
    failures: int = 0  # requests that failed

    def since(self, before: "Totals") -> "Totals":
        return Totals(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))

    def click_through(self, clicks: float) -> float:
        """Expected or actual clicks per slate item."""
        return clicks / self.slate_items if self.slate_items else 0.0


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """Latest values reported by the processes."""

    version: str = ""
    lag_events: int = 0  # events not yet in the model
    metrics: dict[str, float] = field(default_factory=dict)  # quality of predictions before training, by name


@dataclass(slots=True)
class DemoHistory:
    """All samples of a run, oldest first."""

    url: str
    seconds: float | None  # duration; None: until stopped
    times: list[float] = field(default_factory=lambda: [0.0])
    samples: list[Totals] = field(default_factory=lambda: [Totals()])
    delays: list[float] = field(default_factory=list)  # seconds from a click to a response that reflects it
    status: StatusSnapshot = field(default_factory=StatusSnapshot)

    @property
    def elapsed(self) -> float:
        return self.times[-1]

    @property
    def is_complete(self) -> bool:
        return self.seconds is not None and self.elapsed >= self.seconds

    def add(self, elapsed: float, totals: Totals) -> None:
        self.times.append(elapsed)
        self.samples.append(totals)

    def total(self) -> Totals:
        return self.samples[-1]

    def recent(self) -> Totals:
        """Totals of the last ten samples."""
        return self.total().since(self.samples[self._window_start()])

    def per_second(self, count: float) -> float:
        """Rate of a count over the last ten samples."""
        return count / max(1e-9, self.elapsed - self.times[self._window_start()])

    def delay_quantile(self, quantile: float) -> float | None:
        """Seconds from a click to a changed response, over the last hundred measurements."""
        return float(np.quantile(self.delays[-_DELAY_SAMPLES:], quantile)) if self.delays else None

    def click_through_curve(self, points: int) -> list[float]:
        """Click-through rate over the whole run, in at most `points` intervals of equal length."""
        last = len(self.samples) - 1
        edges = np.linspace(0, last, min(points, last) + 1).astype(int).tolist()
        parts = [self.samples[b].since(self.samples[a]) for a, b in pairwise(edges)]
        return [part.click_through(part.clicks) for part in parts]

    def _window_start(self) -> int:
        return max(0, len(self.samples) - 1 - _RECENT_SAMPLES)
