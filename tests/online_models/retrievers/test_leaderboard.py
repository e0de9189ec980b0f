import numpy as np

from online_models.retrievers.leaderboard import Leaderboard
from online_models.retrievers.popular import PopularRetriever
from online_models.retrievers.trending import TrendingRetriever
from online_models.state.item_table import ItemTable, select_actions
from stream.records.batches import Kind
from tests.support.batches import ITEMS, START, batch_of, lists, questions


def acted(
    items: ItemTable, boards: tuple[PopularRetriever | TrendingRetriever, ...], chosen: list[int], ts: int
) -> None:
    n = len(chosen)
    asked = questions(n, [[]] * n, np.full(n, ts))
    batch = batch_of([Kind.action] * n, asked, lists([[item] for item in chosen]), np.zeros(n, np.uint64))
    items.add_keys(batch.lists.item)
    actions, _ = select_actions(batch, items, items.resolve_queries(asked))
    items.learn(batch)
    for board in boards:
        board.learn(np.unique(actions.row))


def names(items: ItemTable, rows: np.ndarray) -> list[int]:
    return [int(np.flatnonzero(items.keys[row] == ITEMS)[0]) for row in rows if row >= 0]


def test_a_board_of_rising_values_is_exact() -> None:
    rng, board, values = np.random.default_rng(0), Leaderboard(16), np.zeros(300)
    for _ in range(400):
        rows = rng.choice(300, 5, replace=False).astype(np.int32)
        values[rows] += rng.exponential(1.0, 5)
        board.learn(rows, values[rows])

    assert board.rows.tolist() == np.argsort(-values)[:16].tolist()


def test_popular_follows_the_fading_counts_exactly() -> None:
    rng, items = np.random.default_rng(1), ItemTable()
    popular = PopularRetriever(items, size=8)
    for step in range(60):
        acted(items, (popular,), np.minimum(rng.zipf(1.3, 20) + step // 10, 150).tolist(), START + step * 7_200_000)
    counters, now = items.counters, START + 60 * 7_200_000
    age = (now - counters["stamp"][: len(items)]) / 86_400_000
    faded = counters["counts"][: len(items), 1:, 3].sum(axis=1) * np.exp2(-age)

    assert popular._boards["day"].rows.tolist() == np.argsort(-faded)[:8].tolist()


def test_trending_prefers_what_rises_over_what_is_always_popular() -> None:
    items = ItemTable()
    trending = TrendingRetriever(items)
    for hour in range(500):
        acted(items, (trending,), [1] * 6, START + hour * 3_600_000)
    now = START + 500 * 3_600_000
    acted(items, (trending,), [1] * 6 + [2] * 6, now)
    eligible = np.ones(1024, np.uint8)

    assert names(items, trending.retrieve(now, 2, eligible)) == [2, 1]


def test_a_board_restores_to_the_same_order() -> None:
    board, other = Leaderboard(4), Leaderboard(4)
    board.learn(np.array([3, 1, 2], np.int32), np.array([1.0, 5.0, 3.0]))
    other.restore(board.changes())

    assert other.rows.tolist() == [1, 2, 3]
