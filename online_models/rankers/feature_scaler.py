"""Standardize features by running moments: of all rows at first, of recent rows later."""

import numpy as np

from online_models.features.feature_names import take_all
from online_models.state.tables import State
from stream.jit import kernel

_CONSTANT_VARIANCE = np.float32(1e-7)  # at most that of a constant, by rounding
_MEMORY = 1_000_000  # rows after which those before them have faded to 1 / e


@kernel
def _blend_moments(x: np.ndarray, rate: float, is_first: bool, mean: np.ndarray, variance: np.ndarray) -> None:
    """Move running moments a share of the way towards those of the rows."""
    total, square = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for m in range(x.shape[0]):
        for f in range(x.shape[1]):
            total[f] += x[m, f]
    total /= x.shape[0]
    for m in range(x.shape[0]):
        for f in range(x.shape[1]):
            square[f] += (x[m, f] - total[f]) ** 2
    for f in range(x.shape[1]):
        delta = total[f] - mean[f]
        mean[f] += rate * delta
        old_variance = 0.0 if is_first else (1.0 - rate) * variance[f]
        variance[f] = old_variance + rate * (square[f] / x.shape[0] + (1.0 - rate) * delta * delta)


class FeatureScaler:
    """Running mean and variance of each feature. Rows that are not finite leave them alone."""

    def __init__(self, size: int) -> None:
        self.moments: State = {"mean": np.zeros(size, np.float32), "variance": np.ones(size, np.float32)}
        self.counts: State = {"rows": np.zeros(1, np.int64)}  # a replica does without them

    @property
    def mean(self) -> np.ndarray:
        return self.moments["mean"]

    @property
    def scale(self) -> np.ndarray:
        """Inverse standard deviations, (size,) float32; 0 for a column that has been constant.

        No weight is trained for such a column, so its first other value must not count.
        """
        variance = self.moments["variance"]
        return np.where(variance > _CONSTANT_VARIANCE, np.float32(1.0) / np.sqrt(variance + np.float32(1e-4)), 0)

    def check_width(self, x: np.ndarray) -> None:
        """Raise ValueError if x has another number of columns: a kernel would read past the end."""
        if x.shape[1] != self.mean.size:
            raise ValueError(f"features must have {self.mean.size} columns, got {x.shape[1]}")

    def update(self, x: np.ndarray) -> None:
        """Move the moments towards those of these rows."""
        rows = self.counts["rows"]
        rate = min(1.0, max(x.shape[0] / (rows[0] + x.shape[0]), 1 - np.exp(-x.shape[0] / _MEMORY)))
        mean, variance = self.mean.copy(), self.moments["variance"].copy()
        _blend_moments(x, rate, rows[0] == 0, mean, variance)
        if np.isfinite(mean).all() and np.isfinite(variance).all():
            self.moments = {"mean": mean, "variance": variance}
            rows[0] += x.shape[0]

    def convert_state(self, state: State, columns: np.ndarray) -> State:
        """Move features to their columns; a new one starts as a constant.

        See `Ranker.convert_state`.
        """
        return take_all(state, columns, {"mean": 0.0, "variance": 0.0})

    def restore(self, state: State) -> None:
        """Copy moments and row count."""
        self.apply(state)
        self.counts = {"rows": state["rows"].copy()}

    def apply(self, changes: State) -> None:
        """Copy the moments."""
        if changes["mean"].size != self.mean.size:
            raise ValueError(f"moments must be of {self.mean.size} features, got {changes['mean'].size}")
        self.moments = {name: changes[name].copy() for name in self.moments}
