"""Apply catalog changes to a replica's model before the learner publishes them."""

from collections.abc import Sequence

import numpy as np

from online_models.model import RecommenderModel
from online_models.training.step import set_item_attributes
from stream.records.catalog import CatalogChange

Batch = tuple[int, list[CatalogChange]]  # next offset of the items topic, changes before it


class CatalogPreview:
    """Changes of the catalog that the learner has not published yet.

    They make a new item recommendable, and a new price filterable, at once. The learner stays the one writer of item
    state: its rows replace those of the preview.

    1. `add`: changes arrived from the items topic
    2. `apply`: write them into the model; new items get rows behind those of the learner
    3. `retract`: remove these rows, before an update of the learner is applied
    4. `learned`: an update was applied; the changes that it covers are no longer pending
    """

    def __init__(self) -> None:
        self._pending: list[Batch] = []
        self._n_applied = 0  # batches that the model has
        self._learned_rows = 0
        self._learned_offset = 0  # next offset of the items topic that the learner has applied

    def add(self, batches: Sequence[Batch]) -> None:
        """Append changes that follow those added before."""
        self._pending += [batch for batch in batches if batch[0] > self._learned_offset]

    def apply(self, model: RecommenderModel) -> np.ndarray:
        """Apply the pending changes that the model does not have; returns the rows of their items."""
        batches, self._n_applied = self._pending[self._n_applied :], len(self._pending)
        for _, changes in batches:
            set_item_attributes(model, changes)
        keys = [change.key for _, changes in batches for change in changes]
        return model.items.lookup(np.array(keys, np.uint64))

    def retract(self, model: RecommenderModel) -> int:
        """Remove the rows of pending items; returns the number of rows that stay."""
        if len(model.items) > self._learned_rows:
            model.items.truncate(self._learned_rows)
        self._n_applied = 0  # an update may overwrite the attributes of other rows
        return self._learned_rows

    def learned(self, model: RecommenderModel, items_offset: int) -> None:
        """Note the state of a model without pending changes, and the items offset that it covers."""
        self._learned_rows, self._learned_offset = len(model.items), items_offset
        self._pending = [batch for batch in self._pending if batch[0] > items_offset]
        self._n_applied = 0
