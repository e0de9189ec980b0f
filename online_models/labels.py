"""What is taken beside what was predicted: labels that mean nothing, and tastes that change."""

from collections import deque
from dataclasses import replace

import numpy as np

from online_models.drift import Level, Odd, PageHinkley, Rate
from online_models.findings import WARM, Finding, first_of, shown_from, told
from online_models.meter import auc
from online_models.watch import BIN_ROWS, Bin

_PATIENCE_MS = 6 * 3_600_000  # event time after which a flip is the new usual
_AT_ONCE = 4 * BIN_ROWS  # rows of a bin that came in one step
_APART_MS = 3_600_000  # between two flips that are not of one piece
_BACK = 15  # bins at most before a flip is sure
_OVER = 1.3  # of what is usual, below which it is over, or
_REST = 1 / 3  # of what was above it, as a rule, while it lasted
_FEW = 1.0  # expected of the half that is predicted least, for a bin to tell


class Labels:
    """Compares outcomes with predictions, of all places and of the half that was predicted least, and the loss."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._all, self._low = Rate(WARM), Rate(WARM)
        self._held: list[float] = []  # how much too much was taken, by bin, while learning is held
        self._flipped = 0, -_APART_MS  # event time of the first flip in a row and of the last, ms
        self._loss, self._rise = Level(WARM), PageHinkley(slack=1.0, threshold=4 * z)
        self._auc, self._fall = Level(WARM), PageHinkley(slack=0.5, threshold=3 * z)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now = bins[-1]
        # What one long step predicts, catching up, it predicts from before all of it: that is worse by itself.
        if now.places < 50 or (len(now.chances) == 1 and now.rows >= _AT_ONCE):
            now.chances, now.outcomes = [], []
            return []
        whole, low = self._all.see(now.taken, now.expected), self._low.see(now.low_taken, now.low_expected)
        loss = self._loss.see(now.loss / now.places)
        rising = loss is not None and self._rise.see(min(loss, self._z))
        falling = self._is_falling(now)
        if whole is None or low is None:
            return []
        if found := self._flip(bins, whole, low):
            self._keep_usual(now)
            return found
        # A flip that is not sure yet, or not over yet, worsens the loss as well, and is no drift.
        more = [odd for odd in (whole, low) if odd.z > self._z / 2 and odd.ratio > 1.2]
        doubtful = bool(more) or now.start < self._flipped[1] + _APART_MS
        found = [] if doubtful else self._drift(bins, whole, rising, falling)
        if found:
            self.reset()
        return found

    def _keep_usual(self, now: Bin) -> None:
        """What came before a flip stays the usual, so that a flip that goes on is found again; but not for ever."""
        if now.end > self._flipped[1] + _APART_MS:
            self._flipped = now.start, now.end
        self._flipped = self._flipped[0], now.end
        if now.end > self._flipped[0] + _PATIENCE_MS:
            self.reset()
        for rate in (self._all, self._low):
            rate.forget()

    def is_over(self, now: Bin) -> bool | None:
        """Whether labels mean something again, by a learner that was not taught the flip; None: too little is known.

        Who is held grows stale: it is over when most of what was too much is gone.
        """
        odd = self._low.judge(now.low_taken, now.low_expected)
        # After a restart nothing is usual yet: then what is predicted has to do.
        odd = odd or Odd(0.0, now.low_taken, now.low_expected)
        if odd.expected < _FEW:
            return None
        self._held.append(odd.ratio)
        return odd.ratio < max(_OVER, 1 + _REST * (float(np.median(self._held)) - 1))

    def settle(self, meant: bool) -> None:
        """It is over, or is the new usual."""
        self._held.clear()
        if meant:
            self.reset()

    def reset(self) -> None:
        for part in (self._all, self._low, self._loss, self._rise, self._auc, self._fall):
            part.reset()

    def _is_falling(self, now: Bin) -> bool:
        chance, taken = np.concatenate(now.chances), np.concatenate(now.outcomes)
        now.chances, now.outcomes = [], []
        if not taken.any():
            return False
        z = self._auc.see(auc(chance, taken))
        return z is not None and self._fall.see(min(-z, self._z))

    def _flip(self, bins: deque[Bin], whole: Odd, low: Odd) -> list[Finding]:
        """More is taken, and of what nobody was expected to take, all over the catalogue: labels that mean nothing."""
        items = sum((one.low_items for one in list(bins)[-3:]), start=type(bins[-1].low_items)())
        top = max(items.values(), default=0) / max(1, items.total())
        # A flip shows in all places about as clearly; where the low half alone has a good day, it does not.
        more = low.z > self._z and low.ratio > 1.5 and low.counted >= 30 and whole.z > 0.7 * self._z
        if not more or top >= 0.2:
            return []
        reason = "what was least expected is taken, all over the catalogue, while the rest is taken as before"
        evidence = {"reason": reason, "top_item_share": round(top, 3), **told(low)}
        first = shown_from(bins, self._bins_since(bins))
        found = Finding("learner", "poison", "label_flip", "", evidence, first, undo=True, lasts="labels")
        return [replace(found, of_slates=True, borne=True)]

    def _bins_since(self, bins: deque[Bin]) -> int:
        """How many of the last bins are flipped: as many as together exceed what is usual the most (Page 1954)."""
        lately, usual = list(bins)[-_BACK:], self._low.usual
        excess = np.array([one.low_taken - _OVER * usual * one.low_expected for one in lately])[::-1].cumsum()
        return int(excess.argmax()) + 1

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
