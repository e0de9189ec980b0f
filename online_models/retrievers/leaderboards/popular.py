"""Popular items, by action counts that decay over a day, a week and two months."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from online_models.retrievers.candidates import Channel
from online_models.retrievers.leaderboards.leaderboard import (
    Leaderboard,
    LeaderboardRetriever,
    corrected_log_counts,
    decayed_log_counts,
    write_eligible,
)
from online_models.state.history_changes import HistoryChanges
from online_models.state.item_table import DAY, TWO_MONTHS, WEEK, Actions, ItemTable
from online_models.state.tables import State, prefix_states, substate
from online_models.state.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PopularSettings:
    size: int = 256  # items of each board

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")


class Leaderboards(dict[str, Leaderboard]):
    """Leaderboards by name, with one state."""

    def __init__(self, names: Sequence[str], size: int) -> None:
        super().__init__((name, Leaderboard(size)) for name in names)

    def state(self) -> State:
        return prefix_states({name: board.state() for name, board in self.items()})

    def restore(self, state: State) -> None:
        for name, board in self.items():
            board.restore(substate(state, name))

    def changes(self) -> State:
        return prefix_states({name: board.changes() for name, board in self.items()})

    def apply(self, changes: State) -> None:
        self.restore(changes)


class PopularRetriever(LeaderboardRetriever):
    """Interleave one board per horizon."""

    channel = Channel.popular

    def __init__(
        self, items: ItemTable, settings: PopularSettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = settings or PopularSettings()
        self.boards = Leaderboards(("day", "week", "months"), self.settings.size)
        super().__init__(items, self.boards, workspace)

    def learn(self, actions: Actions) -> None:
        rows = np.unique(actions.row)
        for board, horizon in self._horizons():
            board.learn(rows, decayed_log_counts(self._items, rows, horizon))

    def relearn(self, changes: HistoryChanges) -> None:
        rows = np.unique(changes.item_row[changes.item_row >= 0])
        for board, horizon in self._horizons():
            board.learn(rows, corrected_log_counts(self._items, rows, horizon))

    def _horizons(self) -> Iterator[tuple[Leaderboard, int]]:
        return zip(self.boards.values(), (DAY, WEEK, TWO_MONTHS), strict=True)

    def rank(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Return about k item rows, the boards in turns, -1 where a board has no more.

        An item may occur twice.
        """
        turns = np.full((-(-k // len(self.boards)), len(self.boards)), -1, np.int32)
        for j, board in enumerate(self.boards.values()):
            write_eligible(board.rows, eligible, turns[:, j])
        return turns.reshape(-1)
