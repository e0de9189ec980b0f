"""Newest items, by creation time, or by the first event where the catalog has none."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.candidates import Channel
from online_models.retrievers.leaderboards.leaderboard import Leaderboard, LeaderboardRetriever, select_eligible
from online_models.state.item_table import NO_TIME, Actions, ItemTable
from online_models.state.workspace import Workspace


@dataclass(frozen=True, slots=True)
class NewestSettings:
    size: int = 1024  # items of the board

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")


class NewestRetriever(LeaderboardRetriever):
    """Keep a board by creation time; items that are created after the query are skipped."""

    channel = Channel.newest

    def __init__(
        self, items: ItemTable, settings: NewestSettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = settings or NewestSettings()
        self._board = Leaderboard(self.settings.size)
        super().__init__(items, self._board, workspace)

    def learn(self, actions: Actions) -> None:
        rows = actions.row if actions.new_rows is None else np.concatenate([actions.new_rows, actions.row])
        self.learn_items(np.unique(rows))

    def learn_items(self, rows: np.ndarray) -> None:
        """Update from item rows whose creation time or first event is new; -1 is skipped."""
        rows = rows[rows >= 0]
        rows = rows[self._items.is_established(rows)]
        created_ts = self._creation_times(rows)
        latest = np.argsort(-created_ts, kind="stable")[: self.settings.size]  # the others cannot reach the board
        latest = latest[created_ts[latest] > NO_TIME]
        self._board.learn(rows[latest], created_ts[latest].astype(np.float64))

    def rank(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Return at most k item rows, newest first."""
        return select_eligible(self._board.rows_up_to(ts), eligible, k)

    def _creation_times(self, rows: np.ndarray) -> np.ndarray:
        created, first = self._items.catalog["created"][rows], self._items.counters["first"][rows]
        created_ts: np.ndarray = np.where(created > NO_TIME, created, first)
        return created_ts
