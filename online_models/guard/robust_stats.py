"""Whether a number is still what it used to be: robust z-scores against a reference, Page–Hinkley, PSI."""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_MAD = 1.4826  # makes the median of absolute deviations a standard deviation, where things are normal
_IQR = 0.7413  # the same of the distance between quartiles


def z_for(false_alarms: float, tests: float) -> float:
    """The z-score that chance passes so many times in so many tests, both per day.

    >>> round(z_for(1.0, 1440.0), 2)
    3.2
    """
    return NormalDist().inv_cdf(1 - min(0.4, false_alarms / tests))


@dataclass(frozen=True, slots=True)
class Odd:
    """How far what was counted lately is from what the reference leads one to expect."""

    z: float
    counted: float
    expected: float

    @property
    def ratio(self) -> float:
        return self.counted / max(self.expected, 1e-9)


class Rate:
    """Counts against an exposure: the last few bins beside a reference of bins before them.

    The reference's own spread beyond that of a Poisson count widens what passes for usual, so that a rate which always
    goes up and down does not alarm.
    """

    def __init__(self, warm: int, kept: int = 240, lately: int = 3) -> None:
        self._warm = warm
        self._reference: deque[tuple[float, float]] = deque(maxlen=kept)
        self._lately: deque[tuple[float, float]] = deque(maxlen=lately)

    def see(self, counted: float, exposure: float) -> Odd | None:
        """None while there is too little to compare with."""
        if len(self._lately) == self._lately.maxlen:
            self._reference.append(self._lately[0])
        self._lately.append((counted, exposure))
        if len(self._reference) < self._warm:
            return None
        return self._odd()

    def reset(self) -> None:
        """What is now is the new usual: it is learnt from what comes."""
        self._reference.clear()
        self._lately.clear()

    def forget(self) -> None:
        """Leave what came lately out of the reference."""
        self._lately.clear()

    def judge(self, counted: float, exposure: float) -> Odd | None:
        """A bin beside the reference, into which it does not go."""
        return self._beside(counted, exposure) if len(self._reference) >= self._warm else None

    @property
    def usual(self) -> float:
        """Counted for each that is exposed."""
        a, n = np.array(self._reference).T
        return float((a.sum() + 0.5) / (n.sum() + 1.0))

    def _odd(self) -> Odd:
        return self._beside(*np.array(self._lately).sum(axis=0).tolist())

    def _beside(self, counted: float, exposure: float) -> Odd:
        a, n = np.array(self._reference).T
        rate = self.usual
        off = (a - rate * n) / np.sqrt(np.maximum(rate * n, 1.0))
        spread = max(1.0, float(_MAD * np.median(np.abs(off - np.median(off)))))
        expected = rate * exposure
        # What varies beyond chance does so for whole stretches: averaging bins does not make it less.
        return Odd(float((counted - expected) / (np.sqrt(max(expected, 1.0)) * spread)), counted, float(expected))


class Level:
    """A number per bin beside the median of those before it."""

    def __init__(self, warm: int, kept: int = 240) -> None:
        self._warm = warm
        self._values: deque[float] = deque(maxlen=kept)

    def see(self, value: float) -> float | None:
        """Robust z-score of a value against those before it; None while there are too few."""
        z = None
        if len(self._values) >= self._warm:
            values = np.array(self._values)
            middle = float(np.median(values))
            spread = float(_MAD * np.median(np.abs(values - middle))) or 1e-9
            z = (value - middle) / spread
        self._values.append(value)
        return z

    def reset(self) -> None:
        self._values.clear()


class Quartiles:
    """A number per bin beside the median and the middle half of those before it; they are at hand, not computed.

    >>> usual = Quartiles(warm=4)
    >>> [usual.see(value) for value in (1.0, 2.0, 3.0, 4.0)]
    [None, None, None, None]
    >>> usual.see(3.0)
    (3.0, 0.0)
    """

    def __init__(self, warm: int, kept: int = 240) -> None:
        self._warm = warm
        self._values: deque[float] = deque()
        self._sorted: list[float] = []
        self._kept = kept

    def see(self, value: float) -> tuple[float, float] | None:
        """The median of the values before, and the robust z-score of this one; None while there are too few."""
        n, beside = len(self._sorted), None
        if n >= self._warm:
            middle = self._sorted[n // 2]
            spread = _IQR * (self._sorted[3 * n // 4] - self._sorted[n // 4])
            beside = middle, (value - middle) / max(spread, 1e-9)
        self._values.append(value)
        insort(self._sorted, value)
        if n == self._kept:
            del self._sorted[bisect_left(self._sorted, self._values.popleft())]
        return beside

    def reset(self) -> None:
        self._values.clear()
        self._sorted.clear()


def z_of(values: np.ndarray, now: np.ndarray, least: float) -> np.ndarray:
    """Robust z-scores of many numbers at once, (f,), beside those before, (n, f); no spread is less than `least`."""
    middle = np.median(values, axis=0)
    z: np.ndarray = (now - middle) / np.maximum(_MAD * np.median(np.abs(values - middle), axis=0), least)
    return z


class PageHinkley:
    """Sum of what is above the usual, less a slack; far above its least value, the mean has risen (Page 1954).

    >>> test = PageHinkley(slack=0.5, threshold=5.0)
    >>> [test.see(z) for z in (0.0, 1.0, -1.0, 3.0, 3.0, 3.0)]
    [False, False, False, False, False, True]
    """

    def __init__(self, slack: float, threshold: float) -> None:
        self._slack = slack
        self._threshold = threshold
        self._sum = 0.0

    def see(self, z: float) -> bool:
        self._sum = max(0.0, self._sum + z - self._slack)
        return self._sum > self._threshold

    def reset(self) -> None:
        self._sum = 0.0


def psi(reference: np.ndarray, now: np.ndarray) -> float:
    """Population stability index of two histograms: 0 for equal shares, above 0.25 commonly called a shift."""
    p, q = (reference + 0.5) / (reference + 0.5).sum(), (now + 0.5) / (now + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())
