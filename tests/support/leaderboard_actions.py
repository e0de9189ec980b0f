"""Actions that the item table counts before leaderboards learn from them."""

from collections.abc import Sequence

import numpy as np

from online_models.retrievers.leaderboards.leaderboard import LeaderboardRetriever
from online_models.state.contribution_caps import over_user_cap
from online_models.state.item_table import ItemTable, select_actions
from stream.records.batches import Kind
from tests.support.batches import make_batch, make_lists, make_queries


def act(items: ItemTable, retriever: LeaderboardRetriever, numbers: Sequence[int], ts: int) -> None:
    """Count an action on each numbered item, each by another user; then train the retriever."""
    n = len(numbers)
    queries = make_queries(n, [[]] * n, np.full(n, ts))
    batch = make_batch([Kind.action] * n, queries, make_lists([[number] for number in numbers]), np.zeros(n, np.uint64))
    items.add_keys(batch.lists.item)
    actions, _ = select_actions(batch, items, items.resolve_queries(queries), over_user_cap(batch))
    items.learn(batch)
    retriever.learn(actions)
