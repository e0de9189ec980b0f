"""Features of what is shown beside a reference window: those that move with the world, and those that break."""

from collections import deque
from typing import Any

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARM, Finding, first_of
from online_models.guard.reference_window import KEPT, LATELY, Window, ks_of, psi_of
from online_models.guard.robust_stats import z_of

_BINS = 2  # without another value, at least
_A_SLATE = 10  # rows that tell no more than one, at most: places of a slate share much
_SURE = 20.0  # log of the odds against chance


class Stuck:
    """Counts, by feature, the rows since it last had two values at once."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, features: int) -> None:
        self.value = np.zeros(features, np.float32)  # (f,) at which it is stuck, if it is
        self._bins, self._rows = np.zeros((2, features), np.int64)  # (f,) in a row without another value
        self._varied: deque[np.ndarray] = deque(maxlen=KEPT + LATELY)  # (f,) bool of each bin

    def add(self, rows: np.ndarray) -> None:
        """Add the rows of a bin, (n, f) float32."""
        if rows.shape[1] != self.value.size:
            self.reset(rows.shape[1])
        top = rows.max(axis=0)
        near = 1e-6 * (1 + np.abs(top))
        varied, other = top - rows.min(axis=0) > near, np.abs(top - self.value) > near
        self._bins, self._rows = np.where(varied | other, 0, (self._bins, self._rows))
        self._bins, self._rows = self._bins + ~varied, self._rows + rows.shape[0] * ~varied
        self.value = top
        self._varied.append(varied)

    def broken(self, window: Window, warm: int) -> np.ndarray:
        """Features that varied in every bin of the reference, and whose rows are not all alike by chance now."""
        stuck = np.flatnonzero((self._bins >= _BINS) & (self._bins <= LATELY) & (window.age > warm))
        if len(self._varied) < warm + LATELY or not stuck.size:
            return stuck[:0]
        counts = window.before[stuck]
        at = (self.value[stuck, None] > window.edges[stuck]).sum(axis=1)
        alike = counts[np.arange(stuck.size), at] / np.maximum(1, counts.sum(axis=1))
        odds = self._rows[stuck] / _A_SLATE * -np.log(np.maximum(alike, 1e-3))
        always = np.array(self._varied)[:-LATELY, stuck].all(axis=0)
        broken: np.ndarray = stuck[(odds > _SURE) & always]
        return broken


_USUAL = 240  # bins in which is seen how far features go from the reference as a rule
_FEW = 50  # rows of a bin that say nothing
_PSI, _KS = 0.25, 0.2  # from which a shift is worth telling
_LEAST = 0.02  # spread of what is usual, of either
_IN_A_ROW = 3  # bins for which a feature has to stand out
_RIPE = WARM // 2 + LATELY  # bins after which there is something to compare with
_NAMED = 5  # features that a finding names
_CLOCK = ("hour_sin", "hour_cos")  # move with the time of day


class Distributions:
    """Compares the last bins with those before, each feature beside how far it goes as a rule."""

    def __init__(self, z: float) -> None:
        self._z = 2 * z  # of the worst of a hundred features, whose shifts are skewed
        self._window, self._stuck = Window(), Stuck()
        self.reset()

    def reset(self) -> None:
        """What is now is the new usual: it is learnt from what comes."""
        self._window.reset(0)
        self._stuck.reset(0)
        self._usual: deque[np.ndarray] = deque(maxlen=_USUAL)  # (2, f) of each bin: root of PSI, and KS
        self._row = np.zeros(0, np.int64)  # (f,) bins in a row that stood out

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now = bins[-1]
        rows, now.sample = np.concatenate(now.sample or [np.zeros((0, 0), np.float32)]), []
        if rows.shape[0] < _FEW:
            return []
        if rows.shape[1] != self._row.size:
            self.reset()
            self._row = np.zeros(rows.shape[1], np.int64)
        self._window.add(rows)
        self._stuck.add(rows)
        if found := self._broken(bins) or self._moved(bins):
            self.reset()
        return found

    def _broken(self, bins: deque[Bin]) -> list[Finding]:
        names = bins[-1].names
        broken = [f for f in self._stuck.broken(self._window, WARM).tolist() if names[f] not in _CLOCK]
        if not broken:
            return []
        values = {names[f]: round(float(self._stuck.value[f]), 3) for f in broken[:_NAMED]}
        reason = "features that always differed are the same for everybody now: what they are made from has gone"
        evidence = {"reason": reason, "features": len(broken), "stuck_at": values}
        return [Finding("stream", "poison", "features", "broken", evidence, first_of(bins))]

    def _moved(self, bins: deque[Bin]) -> list[Finding]:
        if len(self._window) <= _RIPE:
            return []
        before, lately = self._window.before, self._window.lately
        far = np.stack([np.sqrt(psi_of(before, lately)), ks_of(before, lately)])
        if self._usual:  # with new edges there is nothing to compare yet: what was usual stays so
            far = np.where(self._window.age > _RIPE, far, self._usual[-1])
        self._usual.append(far)
        z = self._beside(far)
        self._row = np.where(z > self._z, self._row + 1, 0)
        names = bins[-1].names
        worst = [f for f in np.argsort(-far[0]).tolist() if self._row[f] >= _IN_A_ROW and names[f] not in _CLOCK]
        if not worst:
            return []
        moved = {names[f]: _told(far[0, f], far[1, f], z[f]) for f in worst[:_NAMED]}
        evidence = {"reason": "what is shown has other features than before", "features": len(worst), "moved": moved}
        return [Finding("stream", "drift", "features", "", evidence, first_of(bins))]

    def _beside(self, far: np.ndarray) -> np.ndarray:
        """Robust z-scores beside what is usual, (f,), the lesser of both; 0 where nothing is worth telling."""
        z = np.zeros(far.shape[1])
        odd = (self._window.age > WARM + _RIPE) & (far[0] ** 2 > _PSI) & (far[1] > _KS)
        if len(self._usual) > WARM and odd.any():
            usual = np.array(self._usual)[:-1, :, odd]
            z[odd] = z_of(usual.reshape(len(usual), -1), far[:, odd].ravel(), _LEAST).reshape(2, -1).min(axis=0)
        return z


def _told(root: Any, ks: Any, z: Any) -> dict[str, float]:
    return {"psi": round(float(root) ** 2, 2), "ks": round(float(ks), 2), "z": round(float(z), 1)}
