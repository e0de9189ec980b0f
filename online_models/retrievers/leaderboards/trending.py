"""Trending items: more actions within the last hour than the last week leads to expect."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.candidates import Channel
from online_models.retrievers.leaderboards.leaderboard import (
    Leaderboard,
    LeaderboardRetriever,
    corrected_log_counts,
    decayed_log_counts,
    select_eligible,
)
from online_models.state.contribution_caps import VIEWED
from online_models.state.history_changes import HistoryChanges
from online_models.state.item_table import HORIZONS, HOUR, WEEK, Actions, ItemTable
from online_models.state.workspace import Workspace
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class TrendingSettings:
    size: int = 256  # items of the board
    prior: float = 2.0  # expected actions that are added to the variance, so that few actions are no trend

    def __post_init__(self) -> None:
        if self.size < 1 or self.prior <= 0:
            raise ValueError(f"size must be at least 1 and prior positive, got {self}")


@kernel
def _compute_shortfall(
    rows: np.ndarray, ts: int, counts: np.ndarray, stamp: np.ndarray, prior: float, out: np.ndarray
) -> None:
    """Write by how many standard deviations the actions of the last hour are too few."""
    share = HORIZONS[HOUR] / HORIZONS[WEEK]
    for i in range(rows.size):
        r = rows[i]
        age = max(0.0, (ts - stamp[r]) / 1000.0)
        fast, slow = 0.0, 0.0
        for kind in range(VIEWED, counts.shape[1]):
            fast += counts[r, kind, HOUR]
            slow += counts[r, kind, WEEK]
        fast *= 2.0 ** (-age / HORIZONS[HOUR])
        expected = slow * 2.0 ** (-age / HORIZONS[WEEK]) * share
        out[i] = (expected - fast) / np.sqrt(expected + prior)


class TrendingRetriever(LeaderboardRetriever):
    """Reorder the board of the last hour by the excess over the rate of the last week."""

    channel = Channel.trending

    def __init__(
        self, items: ItemTable, settings: TrendingSettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = settings or TrendingSettings()
        self._board = Leaderboard(self.settings.size)
        super().__init__(items, self._board, workspace)

    def learn(self, actions: Actions) -> None:
        rows = np.unique(actions.row)
        self._board.learn(rows, decayed_log_counts(self._items, rows, HOUR))

    def relearn(self, changes: HistoryChanges) -> None:
        rows = np.unique(changes.item_row[changes.item_row >= 0])
        self._board.learn(rows, corrected_log_counts(self._items, rows, HOUR))

    def rank(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Return at most k item rows, largest excess first."""
        rows = select_eligible(self._board.rows, eligible, self._board.rows.size)
        counters, shortfall = self._items.counters, np.empty(rows.size)
        _compute_shortfall(rows, ts, counters["counts"], counters["stamp"], self.settings.prior, shortfall)
        top: np.ndarray = rows[np.argsort(shortfall, kind="stable")[:k]]
        return top
