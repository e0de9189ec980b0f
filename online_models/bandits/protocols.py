"""The bandit interface, with the rewards that train it and the posterior that it gives."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from online_models.protocols import Stateful
from stream.jit import kernel


class Posterior(NamedTuple):
    """Expected rewards of n arms and their uncertainty."""

    means: np.ndarray  # (n,) float64
    stds: np.ndarray  # (n,) float64, standard deviations of the means


class Prior(NamedTuple):
    """Expected rewards of n arms before their first reward, and their uncertainty."""

    means: np.ndarray  # (n,) float64
    stds: np.ndarray  # (n,) float64, positive


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """Rewards of arms that were shown, in any order and arbitrarily late."""

    arms: np.ndarray  # (n,) int32, rows of the bandit; -1 is ignored, a row out of range counts as skipped
    contexts: np.ndarray  # (n, d) float64
    reward: np.ndarray  # (n,) float64 in [0, 1]
    weight: np.ndarray  # (n,) float64, not negative
    ts: np.ndarray  # (n,) int64, ms, event time at which the arm was shown

    def __post_init__(self) -> None:
        sizes = self.reward.size, self.contexts.shape[0], self.weight.size, self.ts.size
        if sizes != (self.arms.size,) * 4:
            raise ValueError(f"reward, contexts, weight, ts must be as long as arms, {self.arms.size}, got {sizes}")

    def __len__(self) -> int:
        return int(self.arms.size)

    def take(self, rows: np.ndarray) -> "RewardBatch":
        return RewardBatch(self.arms[rows], self.contexts[rows], self.reward[rows], self.weight[rows], self.ts[rows])


@kernel
def are_valid_rows(arms: np.ndarray, n_rows: int) -> bool:
    """Return True if all rows are in use; a kernel would read foreign memory with others."""
    valid = True
    for i in range(arms.size):
        valid = valid and 0 <= arms[i] < n_rows
    return valid


def check_rows(moments: np.ndarray, arms: np.ndarray, n_rows: int) -> None:
    """Raise ValueError if a kernel returned no moments because some arms are not rows in use."""
    if moments.shape[1] != arms.size:
        invalid = arms[(arms < 0) | (arms >= n_rows)][0]
        raise ValueError(f"arms must be rows from 0 to {n_rows - 1}, got {invalid}")


def check_width(contexts: np.ndarray, n_arms: int, width: int) -> None:
    """Raise ValueError if contexts are neither (n_arms, width) nor (1, width)."""
    if contexts.shape[1] != width or contexts.shape[0] not in (1, n_arms):
        raise ValueError(f"contexts must be ({n_arms}, {width}) or (1, {width}), got {contexts.shape}")


class Bandit(Stateful, Protocol):
    """Estimates rewards of arms. Predicting changes nothing; learning leaves its input alone."""

    skipped: int  # rejected rows: not finite, or out of range
    alarms: int  # detected changes of an arm, each of which dropped most of the arm's history

    @property
    def width(self) -> int:
        """Numbers per context."""
        ...

    def add_arms(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; new arms start from their prior."""
        ...

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of arms, (n,) int32; -1 where a key is unknown."""
        ...

    def remove_arms(self, arms: np.ndarray) -> None:
        """Forget distinct arms; new arms reuse their rows."""
        ...

    def learn(self, rewards: RewardBatch) -> None:
        """Train on one micro-batch row by row; splitting it changes nothing."""
        ...

    def posterior(self, arms: np.ndarray, contexts: np.ndarray) -> Posterior:
        """Posterior of n arms; contexts are (n, d), or (1, d) for one context of all arms."""
        ...
