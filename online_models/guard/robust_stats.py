"""Robust statistics: rates and medians against a sliding baseline, Page–Hinkley, PSI."""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_MAD = 1.4826  # scales a median absolute deviation to the standard deviation of a normal distribution
_IQR = 0.7413  # scales an interquartile range to it


def z_threshold(false_alarms: float, tests: float) -> float:
    """Z-score that chance exceeds `false_alarms` times in `tests` one-sided tests, per day.

    >>> round(z_threshold(1.0, 1440.0), 2)
    3.2
    """
    return NormalDist().inv_cdf(1 - min(0.4, false_alarms / tests))


@dataclass(frozen=True, slots=True)
class Deviation:
    """Distance of a recent count from the count that the baseline predicts."""

    z: float
    observed: float
    expected: float

    @property
    def ratio(self) -> float:
        return self.observed / max(self.expected, 1e-9)


class RateBaseline:
    """Test a count per exposure of the last few bins against the bins before them.

    - Null hypothesis: the count of the recent bins is Poisson with the baseline's rate times their exposure.
    - Statistic: z = (observed - expected) / (sqrt(expected) × spread), where spread ≥ 1 is the robust standard
      deviation of the baseline's own standardized residuals.
    - Threshold: the caller's; `z_threshold` derives it from the false alarms allowed per day.
    - An alarm means that the rate per exposure has changed by more than it normally varies between bins.

    The spread keeps a rate that always swings from raising alarms.
    """

    def __init__(self, min_bins: int, window_size: int = 240, recent_bins: int = 3) -> None:
        self._min_bins = min_bins
        self._reference: deque[tuple[float, float]] = deque(maxlen=window_size)
        self._recent: deque[tuple[float, float]] = deque(maxlen=recent_bins)

    def update(self, observed: float, exposure: float) -> Deviation | None:
        """Add a bin; return the deviation of the recent bins, None while the baseline is too short."""
        if len(self._recent) == self._recent.maxlen:
            self._reference.append(self._recent[0])
        self._recent.append((observed, exposure))
        if len(self._reference) < self._min_bins:
            return None
        return self._compute_recent_deviation()

    def reset(self) -> None:
        """Discard the baseline; the next bins form a new one."""
        self._reference.clear()
        self._recent.clear()

    def discard_recent(self) -> None:
        """Keep the recent bins out of the baseline."""
        self._recent.clear()

    def compare(self, observed: float, exposure: float) -> Deviation | None:
        """Deviation of a bin that stays outside the baseline, None while the baseline is short."""
        return self._compute_deviation(observed, exposure) if len(self._reference) >= self._min_bins else None

    @property
    def baseline_rate(self) -> float:
        """Count per exposure of the baseline."""
        counts, exposures = np.array(self._reference).T
        return float((counts.sum() + 0.5) / (exposures.sum() + 1.0))

    def _compute_recent_deviation(self) -> Deviation:
        return self._compute_deviation(*np.array(self._recent).sum(axis=0).tolist())

    def _compute_deviation(self, observed: float, exposure: float) -> Deviation:
        counts, exposures = np.array(self._reference).T
        rate = self.baseline_rate
        residuals = (counts - rate * exposures) / np.sqrt(np.maximum(rate * exposures, 1.0))
        spread = max(1.0, float(_MAD * np.median(np.abs(residuals - np.median(residuals)))))
        expected = rate * exposure
        # Variation beyond chance lasts for whole stretches: the mean of several bins varies as much as one bin.
        z = (observed - expected) / (np.sqrt(max(expected, 1.0)) * spread)
        return Deviation(float(z), observed, float(expected))


class MedianBaseline:
    """Compare one number per bin with the median of the bins before it."""

    def __init__(self, min_bins: int, window_size: int = 240) -> None:
        self._min_bins = min_bins
        self._values: deque[float] = deque(maxlen=window_size)

    def update(self, value: float) -> float | None:
        """Add a value; return its robust z-score against earlier ones, None if they are too few."""
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
    """Compare one number per bin with the quartiles of the bins before it, in sorted order.

    >>> baseline = IQRBaseline(min_bins=4)
    >>> [baseline.update(value) for value in (1.0, 2.0, 3.0, 4.0)]
    [None, None, None, None]
    >>> baseline.update(3.0)
    (3.0, 0.0)
    """

    def __init__(self, min_bins: int, window_size: int = 240) -> None:
        self._min_bins = min_bins
        self._values: deque[float] = deque()
        self._sorted: list[float] = []
        self._window_size = window_size

    def update(self, value: float) -> tuple[float, float] | None:
        """Add a value; return the earlier median and the robust z-score, None without baseline."""
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
    """Robust z-scores, (f,), against earlier values, (n, f), with spreads ≥ `min_spread`."""
    median = np.median(values, axis=0)
    z: np.ndarray = (current - median) / np.maximum(_MAD * np.median(np.abs(values - median), axis=0), min_spread)
    return z


class PageHinkley:
    """Test whether the mean of z-scores has risen (Page 1954).

    - Null hypothesis: the mean of the z-scores is at most `slack`.
    - Statistic: S ← max(0, S + z - slack).
    - Threshold: `threshold`.
    - An alarm means that the mean has been above the slack since S last was 0.

    >>> test = PageHinkley(slack=0.5, threshold=5.0)
    >>> [test.update(z) for z in (0.0, 1.0, -1.0, 3.0, 3.0, 3.0)]
    [False, False, False, False, False, True]
    """

    def __init__(self, slack: float, threshold: float) -> None:
        self._slack = slack
        self._threshold = threshold
        self._sum = 0.0

    def update(self, z: float) -> bool:
        """Add a z-score; return True if the sum exceeds the threshold."""
        self._sum = max(0.0, self._sum + z - self._slack)
        return self._sum > self._threshold

    def reset(self) -> None:
        self._sum = 0.0


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Population stability index: 0 for equal shares; above 0.25 is commonly called a shift."""
    p, q = (reference + 0.5) / (reference + 0.5).sum(), (current + 0.5) / (current + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())
