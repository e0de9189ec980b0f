"""Map item rows of the model to ids, and mark the rows that may be recommended."""

from collections.abc import Iterable, Sequence

import numpy as np

from online_models.state.item_table import UNLISTED, ItemTable
from serving.filters.columns import ItemColumns
from serving.replica.item_schedule import ItemSchedule
from stream.records.catalog import Catalog, CatalogChange, Item

_INITIAL_ROWS = 1024


class ItemDirectory:
    """Id and eligibility of each item row, by the catalog and the item table of the model.

    An item of the catalog may be recommended while it is available. An item that only events name may be recommended
    unless `catalog_only` is set, or the catalog has deleted it.
    """

    def __init__(self, catalog: Catalog, catalog_only: bool = False) -> None:
        self._catalog = catalog
        self._catalog_only = catalog_only
        self.eligible = np.zeros(_INITIAL_ROWS, np.uint8)  # by item row: may be recommended
        self.is_new_eligible = np.zeros(_INITIAL_ROWS, np.uint8)  # by item row: also as a new item, to explore it
        self._item_ids = np.full(_INITIAL_ROWS, "", object)  # by item row
        self._row_count = 0
        self.columns = ItemColumns()
        self.schedule = ItemSchedule()
        self.n_scheduled_changes = 0  # of availability, without a change of the catalog

    def get_item_ids(self, rows: np.ndarray) -> list[str]:
        """Ids of the items in these rows; "" for items that may not be recommended."""
        item_ids: list[str] = self._item_ids[rows].tolist()
        return item_ids

    def apply(self, changes: Sequence[CatalogChange], items: ItemTable) -> None:
        """Apply catalog changes to the rows of their items."""
        rows = items.lookup(np.array([change.key for change in changes], np.uint64))
        self.refresh(items, np.unique(rows[rows >= 0]))

    def advance(self, items: ItemTable, now: int) -> None:
        """Read the items again whose availability changes until `now`, ms."""
        keys = self.schedule.advance(now)
        if keys:
            self.n_scheduled_changes += 1
            rows = items.lookup(np.array(keys, np.uint64))
            self.refresh(items, np.unique(rows[rows >= 0]))

    def add_rows(self, items: ItemTable) -> None:
        """Add the rows beyond those known."""
        n_rows = len(items)
        if n_rows > self.eligible.size:
            growth = 2 * n_rows - self.eligible.size
            self.eligible = np.concatenate([self.eligible, np.zeros(growth, np.uint8)])
            self.is_new_eligible = np.concatenate([self.is_new_eligible, np.zeros(growth, np.uint8)])
            self._item_ids = np.concatenate([self._item_ids, np.full(growth, "", object)])
        new_rows, self._row_count = np.arange(self._row_count, n_rows, dtype=np.int32), max(self._row_count, n_rows)
        self.refresh(items, new_rows)

    def truncate(self, n_rows: int) -> None:
        """Forget the rows from `n_rows` on."""
        for column in (self.eligible, self.is_new_eligible):
            column[n_rows:] = 0
        self._item_ids[n_rows:] = ""
        self.columns.clear(slice(n_rows, None))
        self._row_count = min(self._row_count, n_rows)

    def reset(self, items: ItemTable) -> None:
        """Replace all rows by those of another model state."""
        self.truncate(0)
        self.add_rows(items)

    def refresh(self, items: ItemTable, rows: np.ndarray) -> None:
        """Read the state of distinct rows again."""
        if not rows.size:
            return
        listed = list(map(self._catalog.get, items.keys[rows].tolist()))
        is_listed = np.array([item is not None for item in listed])
        item_ids, eligible = _describe_listed(listed, self.schedule)
        for key, item in zip(items.keys[rows].tolist(), listed, strict=True):
            if item and (item.available_from is not None or item.expires_ts is not None):
                self.schedule.add(key, item)
        named = np.flatnonzero(~is_listed & self._is_recommendable(items, rows))
        item_ids[named], eligible[named] = items.ids.get(rows[named]), 1
        self._item_ids[rows], self.eligible[rows] = item_ids, eligible
        self.is_new_eligible[rows] = eligible * (is_listed | items.is_established(rows))
        self.columns.write(rows, list(map(self._catalog.json, items.keys[rows].tolist())))

    def refresh_named(self, items: ItemTable, rows: np.ndarray) -> None:
        """Read the state of rows again whose id or number of events has changed."""
        if self._catalog_only:
            return
        rows = rows[items.catalog["status"][rows] == UNLISTED]
        is_incomplete = (self.eligible[rows] == 0) | (self.is_new_eligible[rows] == 0)
        self.refresh(items, rows[is_incomplete])

    def _is_recommendable(self, items: ItemTable, rows: np.ndarray) -> np.ndarray:
        """Return True for each row, (n,) bool, that events name and the catalog has not deleted."""
        if self._catalog_only:
            return np.zeros(rows.size, np.bool_)
        is_deleted = np.fromiter(map(self._catalog.is_deleted, items.keys[rows].tolist()), np.bool_, rows.size)
        is_unlisted: np.ndarray = (items.catalog["status"][rows] == UNLISTED) & ~is_deleted & items.ids.has(rows)
        return is_unlisted


def _describe_listed(items: Iterable[Item | None], schedule: ItemSchedule) -> tuple[np.ndarray, np.ndarray]:
    """Ids, (n,) object, and availability, (n,) uint8, of items; None is "" and 0."""
    pairs = [(item.item_id, schedule.is_available(item)) if item else ("", False) for item in items]
    ids = np.empty(len(pairs), object)
    ids[:] = [item_id for item_id, _ in pairs]
    return ids, np.array([available for _, available in pairs], np.uint8)
