import numpy as np

from online_models.retrievers.leaderboards.leaderboard import Leaderboard


def test_board_of_rising_values_is_exact() -> None:
    rng, board, values = np.random.default_rng(0), Leaderboard(16), np.zeros(300)
    for _ in range(400):
        rows = rng.choice(300, 5, replace=False).astype(np.int32)
        values[rows] += rng.exponential(1.0, 5)
        board.learn(rows, values[rows])

    assert board.rows.tolist() == np.argsort(-values)[:16].tolist()


def test_board_restores_to_the_same_order() -> None:
    board, other = Leaderboard(4), Leaderboard(4)
    board.learn(np.array([3, 1, 2], np.int32), np.array([1.0, 5.0, 3.0]))
    other.restore(board.changes())

    assert other.rows.tolist() == [1, 2, 3]
