"""Whether a number is still what it used to be: robust z-scores against a reference, Page–Hinkley, PSI."""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_MAD = 1.4826  # makes the median of absolute deviations a standard deviation, where things are normal
_IQR = 0.7413  # the same of the distance between quartiles


def z_threshold(false_alarms: float, tests: float) -> float:
    """The z-score that chance passes so many times in so many tests, both per day.

    >>> round(z_threshold(1.0, 1440.0), 2)
    3.2
    """
    return NormalDist().inv_cdf(1 - min(0.4, false_alarms / tests))


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far what was counted lately is from what the reference leads one to expect."""

    z: float
    observed: float
    expected: float

    @property
    def ratio(self) -> float:
        return self.observed / max(self.expected, 1e-9)


class RateBaseline:
    """Counts against an exposure: the last few bins beside a reference of bins before them.

    The reference's own spread beyond that of a Poisson count widens what passes for usual, so that a rate which always
    goes up and down does not alarm.
    """

    def __init__(self, min_bins: int, window_size: int = 240, recent_bins: int = 3) -> None:
        self._min_bins = min_bins
        self._reference: deque[tuple[float, float]] = deque(maxlen=window_size)
        self._recent: deque[tuple[float, float]] = deque(maxlen=recent_bins)

    def update(self, observed: float, exposure: float) -> Deviation | None:
        """None while there is too little to compare with."""
        if len(self._recent) == self._recent.maxlen:
            self._reference.append(self._recent[0])
        self._recent.append((observed, exposure))
        if len(self._reference) < self._min_bins:
            return None
        return self._compute_recent_deviation()

    def reset(self) -> None:
        """What is now is the new usual: it is learnt from what comes."""
        self._reference.clear()
        self._recent.clear()

    def discard_recent(self) -> None:
        """Leave what came lately out of the reference."""
        self._recent.clear()

    def compare(self, observed: float, exposure: float) -> Deviation | None:
        """A bin beside the reference, into which it does not go."""
        return self._compute_deviation(observed, exposure) if len(self._reference) >= self._min_bins else None

    @property
    def baseline_rate(self) -> float:
        """Counted for each that is exposed."""
        a, n = np.array(self._reference).T
        return float((a.sum() + 0.5) / (n.sum() + 1.0))

    def _compute_recent_deviation(self) -> Deviation:
        return self._compute_deviation(*np.array(self._recent).sum(axis=0).tolist())

    def _compute_deviation(self, observed: float, exposure: float) -> Deviation:
        a, n = np.array(self._reference).T
        rate = self.baseline_rate
        residuals = (a - rate * n) / np.sqrt(np.maximum(rate * n, 1.0))
        spread = max(1.0, float(_MAD * np.median(np.abs(residuals - np.median(residuals)))))
        expected = rate * exposure
        # What varies beyond chance does so for whole stretches: averaging bins does not make it less.
        return Deviation(
            float((observed - expected) / (np.sqrt(max(expected, 1.0)) * spread)), observed, float(expected)
        )


class MedianBaseline:
    """A number per bin beside the median of those before it."""

    def __init__(self, min_bins: int, window_size: int = 240) -> None:
        self._min_bins = min_bins
        self._values: deque[float] = deque(maxlen=window_size)

    def update(self, value: float) -> float | None:
        """Robust z-score of a value against those before it; None while there are too few."""
        z = None
        if len(self._values) >= self._min_bins:
            values = np.array(self._values)
            median = float(np.median(values))
            spread = float(_MAD * np.median(np.abs(values - median))) or 1e-9
            z = (value - median) / spread
        self._values.append(value)
        return z

    def reset(self) -> None:
        self._values.clear()


class IQRBaseline:
    """A number per bin beside the median and the middle half of those before it; they are at hand, not computed.

    >>> baseline_rate = IQRBaseline(min_bins=4)
    >>> [baseline_rate.update(value) for value in (1.0, 2.0, 3.0, 4.0)]
    [None, None, None, None]
    >>> baseline_rate.update(3.0)
    (3.0, 0.0)
    """

    def __init__(self, min_bins: int, window_size: int = 240) -> None:
        self._min_bins = min_bins
        self._values: deque[float] = deque()
        self._sorted: list[float] = []
        self._window_size = window_size

    def update(self, value: float) -> tuple[float, float] | None:
        """The median of the values before, and the robust z-score of this one; None while there are too few."""
        n, comparison = len(self._sorted), None
        if n >= self._min_bins:
            median = self._sorted[n // 2]
            spread = _IQR * (self._sorted[3 * n // 4] - self._sorted[n // 4])
            comparison = median, (value - median) / max(spread, 1e-9)
        self._values.append(value)
        insort(self._sorted, value)
        if n == self._window_size:
            del self._sorted[bisect_left(self._sorted, self._values.popleft())]
        return comparison

    def reset(self) -> None:
        self._values.clear()
        self._sorted.clear()


def robust_z_scores(values: np.ndarray, current: np.ndarray, min_spread: float) -> np.ndarray:
    """Robust z-scores of many numbers at once, (f,), beside those before, (n, f); no spread is less than `least`."""
    median = np.median(values, axis=0)
    z: np.ndarray = (current - median) / np.maximum(_MAD * np.median(np.abs(values - median), axis=0), min_spread)
    return z


class PageHinkley:
    """Sum of what is above the usual, less a slack; far above its least value, the mean has risen (Page 1954).

    >>> test = PageHinkley(slack=0.5, threshold=5.0)
    >>> [test.update(z) for z in (0.0, 1.0, -1.0, 3.0, 3.0, 3.0)]
    [False, False, False, False, False, True]
    """

    def __init__(self, slack: float, threshold: float) -> None:
        self._slack = slack
        self._threshold = threshold
        self._sum = 0.0

    def update(self, z: float) -> bool:
        self._sum = max(0.0, self._sum + z - self._slack)
        return self._sum > self._threshold

    def reset(self) -> None:
        self._sum = 0.0


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Population stability index of two histograms: 0 for equal shares, above 0.25 commonly called a shift."""
    p, q = (reference + 0.5) / (reference + 0.5).sum(), (current + 0.5) / (current + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())
