import numpy as np

from online_models.retrievers.leaderboards.newest import NewestRetriever
from online_models.state.item_table import NO_TIME, ItemTable
from tests.support.batches import ITEMS, START
from tests.support.leaderboard_actions import act
from tests.support.retriever_inputs import make_users


def test_creation_time_comes_before_the_first_event() -> None:
    items = ItemTable()
    newest = NewestRetriever(items)
    rows, n = items.add_keys(ITEMS[:3]), 3
    created = np.array([START - 5, NO_TIME, START + 5])
    items.set_attributes(rows, np.zeros((n, 4), np.uint64), created, np.full(n, np.nan, np.float32))
    newest.learn_items(rows)
    act(items, newest, [0, 1], START - 1)

    assert newest.retrieve(make_users(items, [[]], [START]), 3)[0].tolist() == [1, 0]
    assert newest.retrieve(make_users(items, [[]], [START + 5]), 3)[0].tolist() == [2, 1, 0]
