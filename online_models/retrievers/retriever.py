"""Interface of the retrievers, which find candidates and score items by the same evidence."""

from typing import Protocol

import numpy as np

from online_models.protocols import Stateful
from online_models.retrievers.candidates import Channel, Exclusions
from online_models.state.history_changes import HistoryChanges
from online_models.state.item_table import Actions, ItemLists, UserQueries
from online_models.state.tables import State


class Scorer(Protocol):
    """Writes scores of items as ranking features."""

    names: tuple[str, ...] = ()  # of the scores
    scales: tuple[float, ...] = ()  # a score ≥ 0 becomes the feature log(1 + scale · score); scale 0 keeps it as it is

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        """Write a score per name into columns of `out`, (m, columns) float32, that hold zeros."""
        return


class Retriever(Scorer, Stateful, Protocol):
    """Find candidates for queries.

    Retrieving and scoring leave the state alone; learning leaves its input alone.

    Every retriever is constructed as `Retriever(items, settings=None, workspace=None)`: the `ItemTable` whose rows it
    uses, its settings record, and the scratch arrays that it shares with others, if any. Retrievers that share a
    workspace must not run in parallel.

    A class that derives from this one writes `channel`, `learn` and `retrieve`; by default it scores nothing and has no
    state.
    """

    channel: Channel
    is_reproducible: bool = True  # False: results depend on an index that is no state, so they must not train anything

    def learn(self, actions: Actions) -> object:
        """Update from actions, which the item table has counted already."""
        ...

    def relearn(self, changes: HistoryChanges) -> None:
        """Update from histories that have changed; the item table has changed its counts already."""
        return

    def retrieve(
        self, users: UserQueries, k: int, eligible: np.ndarray | None = None, exclusions: Exclusions | None = None
    ) -> np.ndarray:
        """Return item rows, (n, k) int32, best first, -1 where there are no more.

        `eligible`: (≥ items,) uint8 by item row, None = all. A retriever that offers all queries the same items may
        return more than k columns, with repeats and excluded items: `merge_candidates` drops both.
        """
        ...

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        return

    def changes(self) -> State:
        return {}

    def apply(self, changes: State) -> None:
        return
