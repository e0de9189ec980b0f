"""What a bandit is told of its arms, and what it thinks of them."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from online_models.protocols import Stateful
from stream.jit import kernel


class Posterior(NamedTuple):
    """What is thought of n arms in one situation: expected rewards, and how unsure that is."""

    means: np.ndarray  # (n,) float64
    stds: np.ndarray  # (n,) float64, standard deviations of the posterior


class Prior(NamedTuple):
    """What is thought of n arms before any of them was tried."""

    means: np.ndarray  # (n,) float64
    stds: np.ndarray  # (n,) float64, positive


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """Arms that were tried, with what came of it; in any order and as late as they come."""

    arms: np.ndarray  # (n,) int32, rows of the bandit; -1 is passed over, what nobody has is refused
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
    """Whether all are rows in use; a kernel that took others would read what is not its own."""
    valid = True
    for i in range(arms.size):
        valid = valid and 0 <= arms[i] < n_rows
    return valid


def check_rows(moments: np.ndarray, arms: np.ndarray, n_rows: int) -> None:
    """ValueError if a kernel gave nothing back, since some of the arms are not rows in use."""
    if moments.shape[1] != arms.size:
        invalid = arms[(arms < 0) | (arms >= n_rows)][0]
        raise ValueError(f"arms must be rows from 0 to {n_rows - 1}, got {invalid}")


def check_width(contexts: np.ndarray, n_arms: int, width: int) -> None:
    """ValueError if contexts are not (arms, width), or (1, width)."""
    if contexts.shape[1] != width or contexts.shape[0] not in (1, n_arms):
        raise ValueError(f"contexts must be ({n_arms}, {width}) or (1, {width}), got {contexts.shape}")


class Bandit(Stateful, Protocol):
    """Learns what arms are worth. Judging leaves the bandit alone; learning leaves its input alone."""

    skipped: int  # rows refused: not a number, or out of range
    alarms: int  # times that an arm's past was dropped because it was refuted

    @property
    def width(self) -> int:
        """Numbers of one context."""
        ...

    def add_arms(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; arms that are new begin with their prior."""
        ...

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of arms, (n,) int32; -1 where a key is unknown."""
        ...

    def remove_arms(self, arms: np.ndarray) -> None:
        """Forget distinct arms; their rows go to the next new ones."""
        ...

    def learn(self, rewards: RewardBatch) -> None:
        """One micro-batch, row by row; splitting it changes nothing."""
        ...

    def posterior(self, arms: np.ndarray, contexts: np.ndarray) -> Posterior:
        """What is thought of n arms; contexts are (n, d), or (1, d) if all arms are in the same."""
        ...
