"""What became of places beside what was predicted of them: a world that changes."""

from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARM, Finding, first_of, told
from online_models.guard.robust_stats import Level, Odd, PageHinkley, Rate

_LATELY = 60  # bins that loss and order are compared with: both go up and down slowly as the learner grows up
_FEW = 10  # answers in a bin, for their order to tell
_APART_MS = 3_600_000  # for which outcomes come of slates that were answered in doubt


class Labels:
    """Compares outcomes with predictions, by their number, their loss and their order."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._all = Rate(WARM)
        self._doubted = -_APART_MS  # event time up to which slates were answered in doubt, ms
        self._loss, self._rise = Level(WARM, _LATELY), PageHinkley(slack=1.0, threshold=4 * z)
        self._auc, self._fall = Level(WARM, _LATELY), PageHinkley(slack=0.5, threshold=3 * z)

    def see(self, bins: deque[Bin], doubtful: bool) -> list[Finding]:
        """`doubtful`: slates are answered so often that it may be poison, which worsens the loss and is no drift."""
        now = bins[-1]
        self._doubted = now.end if doubtful else self._doubted
        if now.places < 50 or now.is_stale:
            return []
        whole = self._all.see(now.taken, now.expected)
        loss = self._loss.see(now.loss / now.places)
        rising = loss is not None and self._rise.see(min(loss, self._z))
        falling = self._is_falling(now)
        if whole is None:
            return []
        more = whole.z > self._z / 2 and whole.ratio > 1.2
        found = [] if more or now.start < self._doubted + _APART_MS else self._drift(bins, whole, rising, falling)
        if found:
            self.reset()
        return found

    def reset(self) -> None:
        for part in (self._all, self._loss, self._rise, self._auc, self._fall):
            part.reset()

    def _is_falling(self, now: Bin) -> bool:
        """Whether what is taken is no longer what was predicted best; at once: what is closed was learnt by then."""
        if now.answers < _FEW:
            return False
        z = self._auc.see(now.places_of_answers / now.answers)
        return z is not None and self._fall.see(min(-z, self._z))

    def _drift(self, bins: deque[Bin], whole: Odd, rising: bool, falling: bool) -> list[Finding]:
        began = list(bins)[-3:][0].start
        if whole.z < -self._z and whole.ratio < 0.8:
            evidence = {"reason": "people take less of what they used to", **told(whole)}
            return [Finding("learner", "drift", "calibration", "", evidence, first_of(bins), began=began)]
        if rising:
            loss = round(bins[-1].loss / bins[-1].places, 4)
            evidence = {"reason": "predictions have become worse, for many and coherently", "log_loss": loss}
            return [Finding("learner", "drift", "loss", "", evidence, first_of(bins), began=began)]
        if falling:
            evidence = {"reason": "what people take is no longer what was expected of them"}
            return [Finding("learner", "drift", "auc", "", evidence, first_of(bins), began=began)]
        return []
