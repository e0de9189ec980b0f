"""What the guard makes of a bin: each monitor looks at it and at those before it."""

from collections import deque

import numpy as np

from online_models.answers import Answers
from online_models.control import Lasting
from online_models.distributions import Distributions
from online_models.drift import Level, Rate, psi, z_for
from online_models.findings import WARM, Finding, first_of, told
from online_models.labels import Labels
from online_models.norms import Norms
from online_models.silence import Silence
from online_models.watch import Bin

_TESTS = 1440 * 20  # bins a day, times what is tested in each
_KEPT = 60  # bins that are kept whole


class Fields:
    """Shares that jump: of events with a field missing, of events whose clock is wrong."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._unplaced, self._unweighed, self._late = Rate(WARM), Rate(WARM), Rate(WARM)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now, found = bins[-1], []
        for name, rate, missing in (
            ("surface", self._unplaced, now.unplaced),
            ("propensities", self._unweighed, now.unweighed),
        ):
            odd = rate.see(missing, now.shown)
            if odd and odd.z > self._z and odd.ratio > 3 and odd.counted > max(50, 0.2 * _shown(bins)):
                evidence = {"reason": f"impressions come without {name}", "field": name, **told(odd)}
                found.append(Finding("stream", "poison", "missing_fields", name, evidence, first_of(bins)))
                rate.reset()
        return found + self._skew(bins)

    def _skew(self, bins: deque[Bin]) -> list[Finding]:
        """Late by minutes and no more: one clock is ahead of the others. What is loaded in bulk is late by days."""
        now, lately = bins[-1], list(bins)[-3:]
        odd = self._late.see(now.late - now.lost, now.rows)
        lost, rows = sum(one.lost for one in lately), sum(one.rows for one in lately)
        if odd is None or odd.z < self._z or odd.ratio < 5 or odd.counted < max(50, 0.05 * rows):
            return []
        if lost > 0.25 * odd.counted:
            return []
        self._late.reset()
        evidence = {
            "reason": "many events are minutes behind others: some clock is wrong",
            "events": rows,
            **told(odd),
        }
        return [Finding("stream", "poison", "clock_skew", "", evidence, first_of(bins))]


class Mix:
    """Which items are acted on: the population stability index of their buckets."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._usual = Level(WARM)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        if len(bins) < WARM:
            return []
        before, lately = list(bins)[:-5], list(bins)[-5:]
        now = np.sum([one.buckets for one in lately], axis=0)
        if now.sum() < 300:
            return []
        shift = psi(np.sum([one.buckets for one in before], axis=0), now)
        z = self._usual.see(shift)
        if z is None or z < 2 * self._z or shift < 0.25:
            return []
        self._usual.reset()
        evidence = {"reason": "people act on other items than before", "psi": round(shift, 3), "z": round(z, 1)}
        return [Finding("stream", "drift", "items", "", evidence, first_of(bins), began=lately[0].start)]


class Monitors:
    """All that looks at bins."""

    def __init__(self, false_alarms: float) -> None:
        z = z_for(false_alarms, _TESTS)
        self._silence, self.answers = Silence(z), Answers(z)
        self.features, self.norms = Distributions(z), Norms(z)
        self._fields, self._labels, self._mix = Fields(z), Labels(z), Mix(z)
        self._bins: deque[Bin] = deque(maxlen=_KEPT)

    def see(self, now: Bin) -> list[Finding]:
        """What is odd about this bin and those before it."""
        self._bins.append(now)
        monitors = (self._silence, self._fields, self.answers, self._mix, self.features, self.norms)
        found = [finding for monitor in monitors for finding in monitor.see(self._bins)]
        return found + self._labels.see(self._bins, doubtful=self.answers.is_odd(now))

    def is_over(self, lasting: Lasting, now: Bin) -> bool | None:
        """Whether what lasted is over; None: too little happened to say."""
        if isinstance(lasting, tuple):
            return self._silence.is_over(lasting, now)
        return self.answers.is_over(lasting, now)

    def settle(self, lasting: Lasting, meant: bool) -> None:
        """It is over, or has lasted for so long that it is `meant`, and the new usual."""
        if isinstance(lasting, tuple):
            (self._silence.reset if meant else self._silence.forget)(lasting)
        else:
            self.answers.settle(meant)

    def forget(self) -> None:
        """Leave the bins so far out of what follows."""
        self._bins.clear()
        self.features.reset()
        self.norms.reset()


def _shown(bins: deque[Bin]) -> int:
    return sum(one.shown for one in list(bins)[-3:])
