"""Table of arms whose discounted sums refer to one time: the base of all bandits."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import overload

import numpy as np

from online_models.bandits.arms import Choice
from online_models.bandits.posteriors.discounting import NO_TIMESTAMP, Discounting
from online_models.bandits.protocols import Posterior, Prior, RewardBatch
from online_models.state.tables import Column, State, Table


class DiscountedArms(ABC):
    """Rows by key, the time to which sums are discounted, and counts of skips and alarms."""

    def __init__(self, columns: Mapping[str, Column], discounting: Discounting) -> None:
        self.skipped = self.alarms = 0
        self._rates = discounting.rates
        self._stamp = np.full(1, NO_TIMESTAMP)  # event time, ms, to which all sums refer
        self._arms = Table(columns, capacity=64)

    def __len__(self) -> int:
        """Rows in use."""
        return len(self._arms)

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers per context."""

    @abstractmethod
    def add_arms(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; new arms start from their prior."""

    @abstractmethod
    def posterior(self, arms: np.ndarray, contexts: np.ndarray) -> Posterior:
        """Posterior of n arms; contexts are (n, d), or (1, d) for one context of all arms."""

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of arms, (n,) int32; -1 where a key is unknown."""
        return self._arms.lookup(keys)

    def remove_arms(self, arms: np.ndarray) -> None:
        """Forget distinct arms; new arms reuse their rows."""
        self._arms.free(arms)

    @overload
    def learn(self, rewards: RewardBatch) -> None: ...
    @overload
    def learn(self, rewards: Choice, reward: float) -> None: ...
    def learn(self, rewards: RewardBatch | Choice, reward: float = math.nan) -> None:
        """Train on a micro-batch row by row, however it is split, or on the reward of one choice."""
        batch = rewards.to_batch(self, reward) if isinstance(rewards, Choice) else rewards
        skipped, alarms, is_discounted = self._learn_rows(batch)
        # Discounting changes the sums of all arms.
        self._arms.mark_changed(np.arange(len(self._arms)) if is_discounted else batch.arms)
        self.skipped += skipped
        self.alarms += alarms

    @abstractmethod
    def _learn_rows(self, rewards: RewardBatch) -> tuple[int, int, bool]:
        """Train on rows in order; return skipped rows, alarms, and True if all arms were discounted.

        Kernels take separate arrays here: numba unpacks a NamedTuple more slowly, and rewards may come one at a time.
        """

    def state(self) -> State:
        return self._arms.state() | {"stamp": self._stamp}

    def restore(self, state: State) -> None:
        self._arms.restore(state)
        self._stamp = state["stamp"].copy()

    def changes(self) -> State:
        return self._arms.changes() | {"stamp": self._stamp.copy()}

    def apply(self, changes: State) -> None:
        self._arms.apply(changes)
        self._stamp = changes["stamp"].copy()
