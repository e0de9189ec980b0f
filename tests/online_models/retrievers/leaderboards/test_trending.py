from online_models.retrievers.leaderboards.trending import TrendingRetriever
from online_models.state.item_table import ItemTable
from stream.clock import HOUR_MS
from tests.support.batches import ITEMS, START
from tests.support.leaderboard_actions import act
from tests.support.retriever_inputs import make_users


def test_rising_item_comes_before_an_always_popular_one() -> None:
    items = ItemTable()
    trending = TrendingRetriever(items)
    for hour in range(500):
        act(items, trending, [1] * 6, START + hour * HOUR_MS)
    now = START + 500 * HOUR_MS
    act(items, trending, [1] * 6 + [2] * 6, now)
    found = trending.retrieve(make_users(items, [[]], [now]), 2)

    assert found[0].tolist() == items.lookup(ITEMS[[2, 1]]).tolist()
