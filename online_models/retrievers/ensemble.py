"""The retrievers together: what each learns from, and what all of them offer."""

import numpy as np

from online_models.retrievers.candidates import Candidates, Channel, merge_candidates
from online_models.retrievers.covisitation import CovisitationRetriever, CovisitSettings
from online_models.retrievers.leaderboard import select_eligible
from online_models.retrievers.newest import NewestRetriever
from online_models.retrievers.popular import PopularRetriever
from online_models.retrievers.recent_history import retrieve_recent
from online_models.retrievers.session_knn import SessionKNN, SessionSettings
from online_models.retrievers.top_k import Exclusions, empty_exclusions
from online_models.retrievers.trending import TrendingRetriever
from online_models.retrievers.two_tower import TwoTowerRetriever, TwoTowerSettings
from online_models.state.item_table import NO_TIME, Actions, ItemTable, UserQueries
from online_models.state.workspace import Workspace
from stream.records.batches import N_CONTEXT, EventType, Queries


class RetrieverEnsemble:
    """One of each retriever over the same items. Not for several threads at once: kernels share scratch space."""

    def __init__(
        self, items: ItemTable, covisit: CovisitSettings, sessions: SessionSettings, two_tower: TwoTowerSettings
    ) -> None:
        self._items = items
        self.workspace = Workspace()
        self._eligible = np.ones(1024, np.uint8)
        self.covisits = CovisitationRetriever(items, self.workspace, covisit)
        self.sessions = SessionKNN(items, self.workspace, sessions)
        self.two_tower = TwoTowerRetriever(items, self.workspace, two_tower)
        self.popular, self.trending, self.newest = (
            PopularRetriever(items),
            TrendingRetriever(items),
            NewestRetriever(items),
        )

    def reserve(self) -> None:
        """Make room for all items that there are."""
        self.workspace.reserve(len(self._items))
        if self._eligible.size < len(self._items):
            self._eligible = np.ones(2 * len(self._items), np.uint8)

    def learn(self, actions: Actions, new_rows: np.ndarray) -> None:
        """What people did, and rows of items that were met for the first time."""
        self.covisits.learn(actions)
        self.sessions.learn(actions)
        self.two_tower.learn(actions)
        action_rows = np.unique(actions.row)
        for retriever in (self.popular, self.trending):
            retriever.learn(action_rows)
        self.newest.learn(new_rows)

    def retrieve(
        self,
        users: UserQueries,
        k: int,
        eligible: np.ndarray | None = None,
        exclusions: Exclusions | None = None,
        cold_start_rows: np.ndarray | None = None,
    ) -> Candidates:
        """Up to k items per channel for each question, and all item rows of `fresh` that may be found.

        `eligible`: (≥ rows,) uint8 by item row, None = all. What comes for one question hangs on none of the others,
        but that all are asked at the time of the latest.
        """
        eligible = self._eligible if eligible is None else eligible
        exclusions = exclusions or empty_exclusions(len(users.queries))
        channels = self.retrieve_by_channel(users, k, exclusions, exclusions, eligible)
        channels[Channel.two_tower] = self.two_tower.retrieve(users, k, eligible, exclusions)
        if cold_start_rows is not None and cold_start_rows.size:
            # First, so that no limit cuts them off.
            channels = {Channel.fresh: select_eligible(cold_start_rows, eligible, k)} | channels
        return merge_candidates(channels, k, exclusions, self.workspace)

    def retrieve_by_channel(
        self,
        users: UserQueries,
        k: int,
        exclusions: Exclusions,
        history_exclusions: Exclusions,
        eligible: np.ndarray | None = None,
    ) -> dict[Channel, np.ndarray]:
        """What each channel finds; only the tower is left out, so that what learns does not hang on its index."""
        eligible = self._eligible if eligible is None else eligible
        ts, workspace = int(users.queries.ts.max(initial=0)), self.workspace
        wide_k = k + exclusions.max_count  # of what is the same for all, enough that some is not hidden
        return {
            Channel.history: retrieve_recent(users, min(k, 16), eligible, history_exclusions, workspace),
            Channel.covisit: self.covisits.retrieve(users, k, eligible, exclusions),
            Channel.sessions: self.sessions.retrieve(users, k, eligible, exclusions),
            Channel.trending: self.trending.retrieve(ts, wide_k, eligible),
            Channel.popular: self.popular.retrieve(wide_k, eligible),
            Channel.newest: self.newest.retrieve(ts, wide_k, eligible),
        }

    def find_similar(self, row: int, k: int) -> Candidates:
        """Up to 3 k neighbours of an item, as found for a person who has met nothing else."""
        queries = Queries(
            ts=self._items.counters["stamp"][[row]], user=np.zeros(1, np.uint64), surface=np.zeros(1, np.uint64),
            context=np.zeros((1, N_CONTEXT), np.uint64), session_start=np.full(1, NO_TIME),
            session_depth=np.ones(1, np.int32), rates=np.zeros((1, len(EventType)), np.float32),
            history_start=np.array([0, 1]), history_item=self._items.keys[[row]],
            history_type=np.array([EventType.click], np.uint8), history_ts=self._items.counters["stamp"][[row]],
            shown_start=np.zeros(2, np.int64), shown_item=np.zeros(0, np.uint64),
        )  # fmt: skip
        users, exclusions = self._items.resolve_queries(queries), empty_exclusions(1)
        by_channel = {
            Channel.covisit: self.covisits.retrieve(users, k, self._eligible, exclusions),
            Channel.sessions: self.sessions.retrieve(users, k, self._eligible, exclusions),
            Channel.two_tower: self.two_tower.retrieve(users, k, self._eligible, exclusions),
        }
        return merge_candidates(by_channel, k, exclusions, self.workspace)
