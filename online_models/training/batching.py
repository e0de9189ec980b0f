"""Divide the rows of a step into training batches."""

from collections.abc import Callable, Iterator

import numpy as np

from online_models.training.progress import TrainingBatch
from stream.records.batches import ExampleBatch


def iter_batches(rows: TrainingBatch, limit: Callable[[], int]) -> Iterator[tuple[ExampleBatch, np.ndarray]]:
    """Yield batches of about `limit()` rows, asked before each, with the partition of each row.

    All rows of one event stay together: they describe the same action.
    """
    n, begin = len(rows.batch), 0
    is_start = np.ones(n, np.bool_)
    is_start[1:] = (np.diff(rows.batch.offset) != 0) | (np.diff(rows.partition) != 0)
    starts = np.append(np.flatnonzero(is_start), n)
    while begin < n:
        end = int(starts[np.searchsorted(starts, min(n, begin + limit()))])
        is_whole = begin == 0 and end == n
        chunk = np.arange(begin, end)
        yield rows.batch if is_whole else rows.batch.take(chunk), rows.partition[chunk]
        begin = end
