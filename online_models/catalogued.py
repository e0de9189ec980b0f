"""The catalogue as the learner sees it: columns of what items say about themselves."""

from collections.abc import Sequence

import numpy as np

from online_models.items import NO_TIME
from online_models.stack import Stack
from stream.catalogue import Change, read_items
from stream.ids import key_of
from stream.logs import EventLog

_CATEGORIES = 4


def learn_items(log: EventLog, stack: Stack, offset: int, before: int) -> int:
    """Tell the stack what the items topic says in [offset, before); returns the offset to go on from."""
    for _, changes in read_items(log, offset, before):
        describe_items(stack, changes)
    return max(offset, before)


def describe_items(stack: Stack, changes: Sequence[Change]) -> None:
    """Admit the items with their categories, creation time and price; what is gone keeps its row unserved."""
    items = [(change.key, change.item) for change in changes if change.item is not None]
    if not items:
        return
    categories = np.zeros((len(items), _CATEGORIES), np.uint64)
    for i, (_, item) in enumerate(items):
        keys = [key_of(name) for name in item.categories[:_CATEGORIES] if name]
        categories[i, : len(keys)] = keys
    created = np.array([NO_TIME if item.created_ts is None else item.created_ts for _, item in items], np.int64)
    price = np.array([np.nan if item.price is None else item.price for _, item in items], np.float32)
    stack.describe(np.array([key for key, _ in items], np.uint64), categories, created, price)
