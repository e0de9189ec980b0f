import numpy as np

from online_models.retrievers.leaderboards.popular import PopularRetriever, PopularSettings
from online_models.state.item_table import DAY, ItemTable
from stream.clock import DAY_MS, HOUR_MS
from tests.support.batches import START
from tests.support.leaderboard_actions import act


def test_board_follows_the_decayed_counts_exactly() -> None:
    rng, items = np.random.default_rng(1), ItemTable()
    popular = PopularRetriever(items, PopularSettings(size=8))
    for step in range(60):
        act(items, popular, np.minimum(rng.zipf(1.3, 20) + step // 10, 150).tolist(), START + step * 2 * HOUR_MS)
    counters, now = items.counters, START + 60 * 2 * HOUR_MS
    age = (now - counters["stamp"][: len(items)]) / DAY_MS
    decayed = counters["counts"][: len(items), 1:, DAY].sum(axis=1) * np.exp2(-age)

    assert popular.boards["day"].rows.tolist() == np.argsort(-decayed)[:8].tolist()
