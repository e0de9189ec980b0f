"""Cache the masks of filters over the whole catalog until the catalog changes."""

import msgspec
import numpy as np

from serving.filters.columns import ItemColumns
from serving.filters.language import Filters
from serving.filters.matching import match


class MaskCache:
    """Masks of the filters that requests used last; one takes a byte per item."""

    def __init__(self, columns: ItemColumns, max_masks: int = 16) -> None:
        self._columns = columns
        self._max_masks = max_masks
        self._masks: dict[bytes, np.ndarray] = {}  # the oldest first
        self._state = (0, 0)  # revision of the columns and number of rows that the masks are of

    def match(self, filters: Filters, n_rows: int) -> np.ndarray:
        """Mask of all rows, (n_rows,) bool, that pass the filters; the caller leaves it as it is."""
        if self._state != (self._columns.revision, n_rows):
            self._masks, self._state = {}, (self._columns.revision, n_rows)
        key = msgspec.json.encode(filters)
        mask = self._masks.pop(key, None)
        if mask is None:
            mask = match(self._columns, filters, slice(0, n_rows), n_rows)
        self._masks[key] = mask
        if len(self._masks) > self._max_masks:
            del self._masks[next(iter(self._masks))]
        return mask
