"""Slates that are answered more often, and worse than foretold: labels that mean nothing, told at once."""

from collections import Counter, deque
from dataclasses import replace

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARM, Finding, told
from online_models.guard.robust_stats import Odd, Rate

_BACK = 15  # bins at most before it is sure
_OVER = 1.3  # of what is usual, below which it is over, or
_REST = 1 / 3  # of what was above it, as a rule, while it lasted
_FEW = 3.0  # answers that are expected of a bin, for it to tell
_TOGETHER = 5  # bins that are looked at for how well answers are foretold
_ENOUGH = 30  # answers that tell
_OFTEN = 1.5  # of the usual answers, from which on they are no evidence of what people like
_SPREAD = 12**-0.5  # standard deviation of a place between 0 and 1, at most if all are as likely
_TOP = 0.2  # share of the answers from which on an item is what they are about
_PATIENCE_MS = 6 * 3_600_000  # event time after which what lasts is the new usual


class Answers:
    """Compares answers with slates shown, and the places of what is taken, as predicted, with those of before.

    More of one and less of the other is no change of tastes, which takes elsewhere what it gives here, and no sale,
    which people answer as predicted, but more.
    """

    def __init__(self, z: float) -> None:
        self._z = z
        self._often, self._below = (
            Rate(WARM),
            Rate(WARM),
        )  # answers by slate; how far below the best they are, by answer
        self._held: list[float] = []  # how much too often slates were answered, by bin, while learning is held
        self._told = 0, 0  # event time of the first of these that hang together, and of the last, ms

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now = bins[-1]
        if now.is_stale:
            return []
        often, below = (
            self._often.see(now.answers, now.shown),
            self._below.see(now.answers - now.places_of_answers, now.answers),
        )
        if often is None or below is None or not self._is_much(often):
            return []
        told_by = below.expected / self._below.usual  # answers
        fallen = (below.counted - below.expected) / (_SPREAD * np.sqrt(max(told_by, 1.0)))
        items = sum((one.answered for one in list(bins)[-3:]), start=Counter[int]())
        top = max(items.values(), default=0) / max(1, items.total())
        if fallen < self._z or often.counted < _ENOUGH or top >= _TOP:
            return []
        evidence = {
            "reason": "slates are answered more often, and worse than foretold, all over the catalogue",
            **told(often),
            "below_best": round(below.counted / told_by, 3),
            "below_best_before": round(self._below.usual, 3),
            "fallen_z": round(float(fallen), 1),
            "top_item_share": round(top, 3),
        }
        first, usual = bins[-self._bins_since(bins)].answered_from, self._often.usual
        self._keep_usual(now)
        found = Finding("learner", "poison", "label_flip", "", evidence, first, undo=True, lasts=usual)
        return [replace(found, of_slates=True, borne=True)]

    def _is_much(self, often: Odd) -> bool:
        return often.z > self._z and often.ratio > _OFTEN

    def _bins_since(self, bins: deque[Bin]) -> int:
        """How many of the last bins are flipped: as many as together exceed what is usual the most (Page 1954)."""
        lately, usual = list(bins)[-_BACK:], self._often.usual
        excess = np.array([one.answers - _OVER * usual * one.shown for one in lately])[::-1].cumsum()
        return int(excess.argmax()) + 1

    def _keep_usual(self, now: Bin) -> None:
        """What came before stays the usual, so that what goes on is found again; but not for ever."""
        first, last = self._told
        self._told = first if now.start < last + _PATIENCE_MS else now.start, now.end
        for rate in (self._often, self._below):
            rate.forget() if now.end < self._told[0] + _PATIENCE_MS else rate.reset()

    def is_odd(self, now: Bin | None) -> bool:
        """Whether slates are answered so often, in a bin that need not be full, that answers tell nothing of tastes."""
        often = self._often.judge(now.answers, now.shown) if now else None
        return often is not None and often.ratio > _OFTEN and often.z > self._z / 2

    def is_over(self, usual: float, now: Bin) -> bool | None:
        """Whether most of what was too much is gone; `usual`: answers a slate. None: too little happened to say."""
        if usual * now.shown < _FEW:
            return None
        self._held.append(now.answers / (usual * now.shown))
        return self._held[-1] < max(_OVER, 1 + _REST * (float(np.median(self._held)) - 1))

    def settle(self, meant: bool) -> None:
        """It is over, or is the new usual."""
        self._held.clear()
        if meant:
            self._often.reset()
            self._below.reset()
