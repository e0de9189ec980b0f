"""Item tables, actions and queries to train and query a retriever with."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from online_models.state.item_table import Actions, ItemTable, UserQueries
from stream.clock import DAY_MS
from tests.support.batches import ITEMS, START, make_queries


def make_items() -> ItemTable:
    """Return a table in which item n of `ITEMS` has row n."""
    items = ItemTable()
    items.add_keys(ITEMS)
    return items


def make_users(items: ItemTable, histories: list[list[int]], ts: Sequence[int] | np.ndarray = ()) -> UserQueries:
    """Return queries with histories of item numbers, at START by default."""
    n = len(histories)
    return items.resolve_queries(make_queries(n, histories, np.array(ts if len(ts) else [START] * n, np.int64)))


def make_actions(items: ItemTable, histories: list[list[int]], rows: Sequence[int], ts: Sequence[int]) -> Actions:
    """Return one action per history, on the item of that row."""
    return Actions(make_users(items, histories, ts), np.array(rows, np.int32), np.array(ts, np.int64))


def random_walks(seed: int = 0) -> list[tuple[list[int], int, int]]:
    """Return (history, item, ts) of ten users, in order of time."""
    rng = np.random.default_rng(seed)
    histories: dict[int, list[int]] = defaultdict(list)
    walks = []
    for step in range(600):
        user, item = int(rng.integers(10)), int(rng.integers(12))
        walks.append((histories[user][-5:], item, START + step * DAY_MS // 4))
        histories[user].append(item)
    return walks
