"""All retrievers over one item table, trained on the same actions; merges their candidates."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from online_models.retrievers.candidates import (
    Candidates,
    Channel,
    Exclusions,
    empty_exclusions,
    merge_candidates,
)
from online_models.retrievers.covisitation import CovisitationRetriever, CovisitSettings
from online_models.retrievers.item_regression.ease import EaseRetriever, EaseSettings
from online_models.retrievers.leaderboards.leaderboard import LeaderboardRetriever, select_eligible
from online_models.retrievers.leaderboards.newest import NewestRetriever, NewestSettings
from online_models.retrievers.leaderboards.popular import PopularRetriever, PopularSettings
from online_models.retrievers.leaderboards.trending import TrendingRetriever, TrendingSettings
from online_models.retrievers.recent_history import RecentHistoryRetriever, RecentHistorySettings
from online_models.retrievers.retriever import Retriever
from online_models.retrievers.session_knn import SessionKNN, SessionSettings
from online_models.retrievers.two_tower import TowerReport, TwoTowerRetriever, TwoTowerSettings
from online_models.state.history_changes import HistoryChanges
from online_models.state.item_table import NO_TIME, Actions, ItemTable, UserQueries
from online_models.state.workspace import Workspace
from stream.records.batches import N_CONTEXT, EventType, Queries


@dataclass(frozen=True, slots=True)
class RetrieverSettings:
    """Settings of each retriever, by its name in `RetrieverEnsemble.parts`."""

    recent_history: RecentHistorySettings = field(default_factory=RecentHistorySettings)
    covisitation: CovisitSettings = field(default_factory=CovisitSettings)
    session_knn: SessionSettings = field(default_factory=SessionSettings)
    ease: EaseSettings = field(default_factory=EaseSettings)
    trending: TrendingSettings = field(default_factory=TrendingSettings)
    popular: PopularSettings = field(default_factory=PopularSettings)
    newest: NewestSettings = field(default_factory=NewestSettings)
    two_tower: TwoTowerSettings = field(default_factory=TwoTowerSettings)


class RetrieverEnsemble:
    """One retriever of each kind over the same items.

    It is not thread-safe, because the retrievers share a workspace. Channels, score features and parts of a checkpoint
    follow from `parts`, in its order.
    """

    def __init__(self, items: ItemTable, settings: RetrieverSettings | None = None) -> None:
        self.settings = setting = settings or RetrieverSettings()
        self._items = items
        self.workspace = workspace = Workspace()
        self.covisitation = CovisitationRetriever(items, setting.covisitation, workspace)
        self.newest = NewestRetriever(items, setting.newest, workspace)
        self.two_tower = TwoTowerRetriever(items, setting.two_tower, workspace)
        self.parts: Mapping[str, Retriever] = MappingProxyType(
            {
                "recent_history": RecentHistoryRetriever(items, setting.recent_history, workspace),
                "covisitation": self.covisitation,
                "session_knn": SessionKNN(items, setting.session_knn, workspace),
                "ease": EaseRetriever(items, setting.ease, workspace),
                "trending": TrendingRetriever(items, setting.trending, workspace),
                "popular": PopularRetriever(items, setting.popular, workspace),
                "newest": self.newest,
                "two_tower": self.two_tower,
            }
        )

    def learn(self, actions: Actions, new_rows: np.ndarray) -> TowerReport:
        """Update all parts from actions and from the rows of items that are new in this step."""
        actions = replace(actions, new_rows=new_rows)
        for part in self.parts.values():
            if part is not self.two_tower:
                part.learn(actions)
        return self.two_tower.learn(actions)

    def relearn(self, changes: HistoryChanges) -> None:
        """Update all parts from histories that have changed."""
        for part in self.parts.values():
            part.relearn(changes)

    def learn_items(self, rows: np.ndarray) -> None:
        """Update from the rows of items whose creation time was set."""
        self.newest.learn_items(rows)

    def rank_board(self, name: str, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Return about k rows of a part that is a board, at `ts`, ms, best first; -1 = none."""
        part = self.parts[name]
        if not isinstance(part, LeaderboardRetriever):
            raise ValueError(f"{name} has no board; expected popular, trending or newest")
        return part.rank(ts, k, eligible)

    def retrieve(
        self,
        users: UserQueries,
        k: int,
        eligible: np.ndarray | None = None,
        exclusions: Exclusions | None = None,
        cold_start_rows: np.ndarray | None = None,
    ) -> Candidates:
        """Return up to k items per channel for each query, and up to k of `cold_start_rows`.

        `eligible`: (≥ items,) uint8 by item row, None = all. The candidates of a query do not depend on the other
        queries, except that leaderboards are read at the time of the latest query.
        """
        exclusions = exclusions or empty_exclusions(len(users))
        channels = {part.channel: part.retrieve(users, k, eligible, exclusions) for part in self.parts.values()}
        if cold_start_rows is not None and cold_start_rows.size:
            eligible = self._all_eligible() if eligible is None else eligible
            rows = select_eligible(cold_start_rows, eligible, k)
            # First, so that no limit cuts them off.
            channels = {Channel.fresh: rows[None].repeat(len(users), axis=0)} | channels
        return merge_candidates(channels, k, exclusions, self.workspace)

    def retrieve_for_training(self, users: UserQueries, k: int) -> Candidates:
        """Return candidates of the reproducible channels.

        Items of the history come by the channel `history` only.
        """
        interacted, none = Exclusions(users.queries.history_start, users.history), empty_exclusions(len(users))
        channels = {
            part.channel: part.retrieve(users, k, None, none if part.channel == Channel.history else interacted)
            for part in self.parts.values()
            if part.is_reproducible
        }
        return merge_candidates(channels, k, interacted, self.workspace)

    def find_similar(self, row: int, k: int) -> Candidates:
        """Return up to k items per scoring channel for a user whose history is this one item."""
        users = self._items.resolve_queries(self._query_with_one_click(row))
        channels = {part.channel: part.retrieve(users, k) for part in self.parts.values() if part.names}
        return merge_candidates(channels, k, empty_exclusions(1), self.workspace)

    def measure_similarity(self, row: int, others: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """Similarity of n other items to an item at its latest event, (n,) float64, 0 to 1."""
        return self.covisitation.measure_similarity(row, int(self._items.counters["stamp"][row]), others, prior)

    def _query_with_one_click(self, row: int) -> Queries:
        ts = self._items.counters["stamp"][[row]]
        return Queries(
            ts=ts, user=np.zeros(1, np.uint64), surface=np.zeros(1, np.uint64),
            context=np.zeros((1, N_CONTEXT), np.uint64), session_start=np.full(1, NO_TIME),
            session_depth=np.ones(1, np.int32), rates=np.zeros((1, len(EventType)), np.float32),
            history_start=np.array([0, 1]), history_item=self._items.keys[[row]],
            history_type=np.array([EventType.click], np.uint8), history_ts=ts,
            shown_start=np.zeros(2, np.int64), shown_item=np.zeros(0, np.uint64),
        )  # fmt: skip

    def _all_eligible(self) -> np.ndarray:
        self.workspace.reserve(len(self._items))
        return self.workspace.all_eligible
