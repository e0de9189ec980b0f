"""What becomes of the slates that each version made: the newest beside those before them, by a sequential test."""

import math
from collections import deque
from typing import Literal

import numpy as np

from online_models import metrics
from online_models.guard.findings import Finding
from online_models.guard.reference_model import Judged
from stream.ids import key_of
from stream.records.batches import ExampleBatch, Kind, flat_runs

_ENOUGH = 1_000  # slates before anything is judged
_BEHIND = 1_000  # slates by which the reference is behind what is judged
_DOUBT = 3.0  # log of the evidence from which on the reference waits for more
_FADE = 5_000.0  # slates over which the reference forgets
_SLACK = 0.05  # part by which click-through may fall without a word
_BETS = np.array([0.85, 0.7, 0.5])  # of what is promised: what each bets on
_PATIENCE = 1e6  # slates between false alarms, divided by those that are put up with in a day
_VERSIONS = 32_768  # that are known by name


class Tally:
    """Slates, how many of them something was taken from, and how many by an older version's reckoning."""

    def __init__(self) -> None:
        self.slates = self.taken = self.expected = 0.0

    def add(self, slates: float, taken: float, expected: float) -> None:
        self.slates += slates
        self.taken += taken
        self.expected += expected

    def fade(self, kept: float) -> None:
        self.slates, self.taken, self.expected = kept * self.slates, kept * self.taken, kept * self.expected


class Fallen:
    """Bets that a rate has fallen below what is promised: an e-detector (Shin, Ramdas and Rinaldo 2022, section 3).

    If it has not, no bet gains anything on average, whenever one looks: the wealth of a bet that begins again whenever
    it has lost passes `patience` once in so many rows at most. Several bets share the odds.

    >>> fallen = Fallen(patience=1000.0)
    >>> fallen.see(np.tile([1.0, 0, 0], 100), promised=0.3), fallen.see(np.zeros(60), promised=0.3)
    (False, True)
    """

    def __init__(self, patience: float) -> None:
        self._enough = math.log(patience * _BETS.size)
        self.reset()

    def reset(self) -> None:
        self._wealth = np.zeros(_BETS.size)  # log
        self._since = np.zeros(_BETS.size, np.int64)  # rows since each bet began

    @property
    def evidence(self) -> float:
        """Log of what the best bet has made of 1, less its share of the odds."""
        return float(self._wealth.max()) - math.log(_BETS.size)

    @property
    def since(self) -> int:
        """Rows since the fall began, as the best bet has it."""
        return int(self._since[self._wealth.argmax()])

    def see(self, taken: np.ndarray, promised: float) -> bool:
        """Whether the rows, (n,) of 0 and 1, make it too unlikely that the rate is still what is promised."""
        other = _BETS * promised
        won, lost = np.log(_BETS), np.log((1 - other) / (1 - promised))
        path = self._wealth + np.cumsum(np.where(taken[:, None] > 0, won, lost), axis=0)
        lowest = np.minimum(np.minimum.accumulate(path, axis=0), 0.0)
        wealth = path - lowest
        n = taken.size
        for k in range(_BETS.size):
            broke = np.flatnonzero(wealth[:, k] == 0.0)
            self._since[k] = n - 1 - broke[-1] if broke.size else self._since[k] + n
        self._wealth = wealth[-1]
        return bool(self._wealth.max() > self._enough)


class ClickThrough:
    """Compares slates of the latest versions with those of the versions before.

    When fewer of them are answered it asks an older version: if that foresaw it, the latest versions choose worse, and
    what taught them is undone; if it expected as much as ever, the world has changed, and is followed.
    """

    def __init__(self, false_alarms: float) -> None:
        self._before = Tally()
        self._latest: deque[tuple[bool, float, int, int]] = deque()  # taken, expected, key of the version, event time
        self._fallen = Fallen(_PATIENCE / false_alarms)
        self._covered: dict[int, tuple[str, dict[int, int]]] = {}  # name and offsets of a version, by its key

    def see(
        self, batch: ExampleBatch, fresh: np.ndarray, judged: Judged | None, version: str, offsets: dict[int, int]
    ) -> list[Finding]:
        """Take note of the slates that a step closed, and of the version that it led to with what taught it."""
        found = self._see(batch, fresh, judged) if judged else []
        self._covered[key_of(version)] = version, dict(offsets)
        while len(self._covered) > _VERSIONS:
            del self._covered[next(iter(self._covered))]
        return found

    def forget(self) -> None:
        """The learner has gone back: what was shown by versions that are no more is not judged."""
        self._latest.clear()
        self._covered.clear()
        self._fallen.reset()

    def _see(self, batch: ExampleBatch, fresh: np.ndarray, judged: Judged) -> list[Finding]:
        rows = np.flatnonzero(batch.kind == Kind.closed)
        flat, start = flat_runs(batch.lists.start, rows)
        known = np.fromiter((key in self._covered for key in batch.version[rows].tolist()), np.bool_, rows.size)
        ours = fresh[rows] & known & (np.diff(start) > 0)
        if not ours.any():
            return []
        label = batch.lists.label[flat]
        misses = np.concatenate([[0.0], np.cumsum(np.log1p(-judged.probability))])
        taken = np.concatenate([[0.0], np.cumsum(label > 0)])
        expected = -np.expm1(misses[start[1:]] - misses[start[:-1]])[ours]
        answered = (taken[start[1:]] > taken[start[:-1]])[ours]
        found = self._judge(answered)
        made = batch.version[rows][ours].tolist(), batch.questions.ts[rows][ours].tolist()
        self._latest.extend(zip(answered.tolist(), expected.tolist(), *made, strict=True))
        if found:
            finding = self._finding()
            self._begin_anew()
            return [finding] if finding else []
        while len(self._latest) > (_BEHIND if self._fallen.evidence < _DOUBT else 5 * _BEHIND):
            old = self._latest.popleft()
            self._before.fade(1 - 1 / _FADE)
            self._before.add(1.0, float(old[0]), old[1])
        return []

    def _judge(self, answered: np.ndarray) -> bool:
        n = self._before.slates
        if n < _ENOUGH:
            return False
        rate = self._before.taken / n
        promised = (1 - _SLACK) * rate - 2 * math.sqrt(rate * (1 - rate) / n)
        if promised < 1e-3:
            return False
        metrics.click_through.labels("before").set(rate)
        metrics.click_through.labels("latest").set(sum(taken for taken, *_ in self._latest) / max(1, len(self._latest)))
        fallen = self._fallen.see(answered.astype(float), min(promised, 0.99))
        metrics.click_through_evidence.set(self._fallen.evidence)
        return fallen

    def _finding(self) -> Finding | None:
        lately = list(self._latest)[-max(1, self._fallen.since) :]
        now = Tally()
        for taken, expected, *_ in lately:
            now.add(1.0, float(taken), expected)
        before = self._before
        fall = now.taken / now.slates / (before.taken / before.slates)
        foreseen = now.expected / now.slates / max(1e-9, before.expected / before.slates)
        version, first = self._covered[lately[0][2]]
        began = 0 if (chosen_worse := foreseen < (1 + fall) / 2) else lately[0][3]
        kind: Literal["poison", "drift"] = "poison" if chosen_worse else "drift"
        reason = (
            "slates of the latest versions are answered less, as the version before them foresees"
            if chosen_worse
            else "slates are answered less, though the version before expects as much of them as ever"
        )
        evidence = {
            "reason": reason,
            "version": version,
            "slates": int(now.slates),
            "rate": round(now.taken / now.slates, 4),
            "rate_before": round(before.taken / before.slates, 4),
            "foreseen": round(foreseen, 3),
        }
        return Finding("service", kind, "click_through", "", evidence, first, undo=chosen_worse, began=began)

    def _begin_anew(self) -> None:
        self._before = Tally()
        self._latest.clear()
        self._fallen.reset()
