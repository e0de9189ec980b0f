"""Map item rows of the model to ids, and mark the rows that may be recommended."""

from collections.abc import Iterable, Sequence

import numpy as np

from stream.records.catalog import Catalog, CatalogChange

_INITIAL_ROWS = 1024


class ItemDirectory:
    """Id and eligibility of each item row, by the catalog and the rows of the model."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.eligible = np.zeros(_INITIAL_ROWS, np.uint8)  # by item row: in the catalog and available
        self._item_ids = np.full(_INITIAL_ROWS, "", object)  # by item row
        self._available_keys: set[int] = set()
        self._row_count = 0

    def get_item_ids(self, rows: np.ndarray) -> list[str]:
        """Ids of the items in these rows; "" for items outside the catalog."""
        item_ids: list[str] = self._item_ids[rows].tolist()
        return item_ids

    def apply(self, changes: Sequence[CatalogChange], rows: np.ndarray) -> None:
        """Apply n catalog changes to the rows of their items, (n,) int32, -1 without a row."""
        for change in changes:
            is_available = change.item is not None and change.item.available
            (self._available_keys.add if is_available else self._available_keys.discard)(change.key)
        has_row = rows >= 0
        keys = [change.key for change in changes]
        self.eligible[rows[has_row]] = self._lookup_eligibility(keys)[has_row]
        self._item_ids[rows[has_row]] = self._lookup_item_ids(keys)[has_row]

    def add_rows(self, keys: np.ndarray) -> None:
        """Add the rows beyond those known; `keys`: item keys of all rows, (n,) uint64."""
        if keys.size > self.eligible.size:
            growth = 2 * keys.size - self.eligible.size
            self.eligible = np.concatenate([self.eligible, np.zeros(growth, np.uint8)])
            self._item_ids = np.concatenate([self._item_ids, np.full(growth, "", object)])
        new_keys = keys[self._row_count :].tolist()
        self._item_ids[self._row_count : keys.size] = self._lookup_item_ids(new_keys)
        self.eligible[self._row_count : keys.size] = self._lookup_eligibility(new_keys)
        self._row_count = keys.size

    def reset(self, keys: np.ndarray) -> None:
        """Replace all rows by those of another model state."""
        self._row_count = 0
        self.eligible[:] = 0
        self.add_rows(keys)

    def _lookup_eligibility(self, keys: Iterable[int]) -> np.ndarray:
        return np.array([key in self._available_keys for key in keys], np.uint8)

    def _lookup_item_ids(self, keys: Iterable[int]) -> np.ndarray:
        items = map(self._catalog.get, keys)
        return np.array([item.item_id if item else "" for item in items], object)
