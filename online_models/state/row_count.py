"""Number of rows that a model was trained on."""

import numpy as np

from online_models.state.tables import State


class RowCount:
    """A counter of the learner; replicas do without it."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, rows: int) -> None:
        self.value += rows

    def state(self) -> State:
        return {"rows": np.array([self.value])}

    def restore(self, state: State) -> None:
        """Copy the count; 0 from a checkpoint of an older release, which has none."""
        self.value = int(state["rows"][0]) if "rows" in state else 0

    def changes(self) -> State:
        return {}

    def apply(self, changes: State) -> None:
        pass
