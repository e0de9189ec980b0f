"""Take records in batches; an error comes after the records before it."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches_until_error(records: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` records; the last one is shorter.

    An OSError of the source is raised after the records before it.

    >>> list(batches_until_error(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    batch: list[T] = []
    try:
        for record in records:
            batch.append(record)
            if len(batch) == size:
                yield batch
                batch = []
    except OSError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
