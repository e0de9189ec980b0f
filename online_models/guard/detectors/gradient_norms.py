"""How long gradients are and how far updates move what is learnt: a learner that breaks itself, or is fed garbage."""

import math
from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARM, Finding, first_of
from online_models.guard.robust_stats import Quartiles

_TIMES = 2.5  # the usual, from which it is worth telling
_IN_A_ROW = 3  # bins
_LASTS_MS = 1_800_000  # event time after which what is, is the new usual
_SKIPPED = 0.1  # of the updates
_FEW = 10  # updates left out that are no burst
_WORDS = {
    "gradient_norm": "gradients are far longer than they ever were",
    "update_norm": "updates move what is learnt much farther than they ever did",
}
Subject = tuple[str, str]  # detector, and part of the learner


class Norms:
    """Compares the root mean squares of bins, as logs; while one stands out, nothing that is learnt is served.

    Of all updates of a bin, however many a step takes: catching up in long steps looks like going on in short ones.
    """

    def __init__(self, z: float) -> None:
        self._z = z
        self.reset()

    def reset(self) -> None:
        self._levels: dict[Subject, Quartiles] = {}
        self._row: dict[Subject, int] = {}  # bins in a row that stood out
        self._open: Subject | None = None
        self._since = 0  # event time, ms

    @property
    def refusal(self) -> str:
        """Why the state as it is now may not be served, "" if it may."""
        return f"{_WORDS[self._open[0]]}: {self._open[1]}" if self._open else ""

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now = bins[-1]
        found = self._skipped(bins)
        if now.end > self._since + _LASTS_MS and self._open:
            self._levels[self._open].reset()
            self._close(self._open)
        for subject, (squares, updates) in now.norms.items():
            times, z = self._beside(subject, 0.5 * math.log(squares / updates + 1e-30))
            odd = z > self._z and times > _TIMES
            self._row[subject] = self._row.get(subject, 0) + 1 if odd else 0
            if subject == self._open and times < _TIMES / 2:
                self._close(subject)
            elif self._row[subject] >= _IN_A_ROW and self._open is None:
                found.append(self._told(subject, times, z, bins))
        return found

    def _beside(self, subject: Subject, log: float) -> tuple[float, float]:
        """How many times the usual it is, and its z-score; 1 and 0 while nothing is known."""
        known = self._levels.setdefault(subject, Quartiles(WARM)).see(log)
        return (1.0, 0.0) if known is None else (math.exp(log - known[0]), known[1])

    def _close(self, subject: Subject) -> None:
        self._open, self._row[subject] = None, 0

    def _told(self, subject: Subject, times: float, z: float, bins: deque[Bin]) -> Finding:
        self._open, self._since = subject, bins[-1].end
        detector, part = subject
        evidence = {"reason": _WORDS[detector], "part": part, "times": round(times, 1), "z": round(z, 1)}
        return Finding("learner", "poison", detector, part, evidence, first_of(bins, _IN_A_ROW), refuse=True)

    def _skipped(self, bins: deque[Bin]) -> list[Finding]:
        lately = list(bins)[-_IN_A_ROW:]
        skipped, made = sum(one.skipped for one in lately), sum(one.updates for one in lately)
        if skipped < _FEW or skipped < _SKIPPED * (skipped + made):
            return []
        reason = "many updates are left out because a gradient is not a number"
        evidence = {"reason": reason, "skipped": skipped, "made": made}
        return [Finding("learner", "poison", "non_finite", "", evidence, first_of(bins))]
