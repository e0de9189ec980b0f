"""State of pointwise models: a row per id in an `EmbeddingTable`, and dense arrays."""

import numpy as np

from online_models.rankers.sanitize import keys_by_field
from online_models.state.embeddings import SQUARE_START, EmbeddingSettings, EmbeddingTable
from online_models.state.tables import State, prefix_states, substate

# Behind the vector in a row stand: its Adagrad sum, the weight of the id, and the weight's Adagrad sum.
SQUARE, WEIGHT, WEIGHT_SQUARE = 0, 1, 2


class EmbeddingModel:
    """Checkpoint and follow the rows of ids and the dense arrays.

    A subclass writes the dense arrays in place.
    """

    def __init__(self, settings: EmbeddingSettings, dense: State) -> None:
        self.skipped = 0  # rows that were invalid, or had no finite gradient
        self._ids = EmbeddingTable(settings, extra=(0, SQUARE_START))
        self._dense = dense

    def _lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of field keys, (n, c) int32; -1 for an id without a row."""
        return self._ids.lookup(keys_by_field(keys))

    def _add_keys(self, keys: np.ndarray, now: int) -> np.ndarray:
        """Rows of field keys, (n, c) int32, after counting them at event time `now`, ms."""
        return self._ids.add_keys(keys_by_field(keys), now)

    def state(self) -> State:
        """Rows of ids, and the dense arrays; views."""
        return prefix_states({"ids": self._ids.state(), "dense": self._dense})

    def restore(self, state: State) -> None:
        """Replace all state by a copy of `state`."""
        self._ids.restore(substate(state, "ids"))
        self._write_dense(state)

    def changes(self) -> State:
        """Rows of ids that occurred since the last call, and a copy of the dense arrays."""
        dense = {name: array.copy() for name, array in self._dense.items()}
        return prefix_states({"ids": self._ids.changes(), "dense": dense})

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica."""
        self._ids.apply(substate(changes, "ids"))
        self._write_dense(changes)

    def _write_dense(self, state: State) -> None:
        for name, array in substate(state, "dense").items():
            self._dense[name][:] = array
