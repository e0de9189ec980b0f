"""The interfaces that everything that learns stands behind."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from online_models.state.tables import State


class Stateful(Protocol):
    """State that a checkpoint holds whole and a replica follows change by change.

    All state is numpy arrays by name. `restore(state())` and applying every `changes()` both give the same bits.
    """

    def state(self) -> State:
        """All state, as views where possible: copy before learning on."""
        ...

    def restore(self, state: State) -> None:
        """Become what `state()` gave."""
        ...

    def changes(self) -> State:
        """What changed since the last call: rows with their columns, and small dense arrays whole."""
        ...

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica."""
        ...


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows for a ranker: hashed fields, numbers, and what is known of the outcome."""

    keys: np.ndarray  # (n, c) uint64, one key per categorical field, 0 = missing
    numbers: np.ndarray  # (n, d) float32, NaN is not allowed
    label: np.ndarray  # (n,) float32 in [0, 1]
    weight: np.ndarray  # (n,) float32
    start: np.ndarray  # (lists + 1,) int64: rows of one list stand together; one row each = pointwise
    now: int = 0  # event time, ms, by which ids are found unseen for long; 0 = not said

    def __len__(self) -> int:
        return int(self.label.size)


class Ranker(Stateful, Protocol):
    """Scores rows. Predicting leaves the ranker alone; learning leaves its input alone."""

    def predict(self, batch: FeatureRows) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        ...

    def learn(self, batch: FeatureRows) -> None:
        """One pass over the rows in their order, each from what the rows before it left."""
        ...
