"""Arms in a table whose sums all stand for one time: what bandits do alike, whatever they learn of an arm."""

from collections.abc import Mapping

import numpy as np

from online_models.bandits.posteriors.discounting import NO_TIMESTAMP, Discounting
from online_models.state.tables import Column, State, Table


class DiscountedArms:
    """Rows by key, the time to which their past has faded, and the account of what was refused and refuted."""

    def __init__(self, columns: Mapping[str, Column], discounting: Discounting) -> None:
        self.skipped = self.alarms = 0
        self._rates = discounting.rates
        self._stamp = np.full(1, NO_TIMESTAMP)  # event time, ms, that all sums stand for
        self._arms = Table(columns, capacity=64)

    def __len__(self) -> int:
        """Rows in use."""
        return len(self._arms)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        return self._arms.lookup(keys)

    def remove_arms(self, arms: np.ndarray) -> None:
        self._arms.free(arms)

    def _record_batch(self, skipped: int, alarms: int, all_changed: bool, arms: np.ndarray) -> None:
        """What a batch did: rows refused, arms refuted, and whether all arms have changed or only these."""
        self._arms.mark_changed(np.arange(len(self._arms)) if all_changed else arms)
        self.skipped += skipped
        self.alarms += alarms

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
