"""The retrievers together: what each learns from, and what all of them offer."""

import numpy as np

from online_models.retrievers.candidates import Channel, Found, merged
from online_models.retrievers.covisitation import Covisits, CovisitSettings
from online_models.retrievers.leaderboard import first_eligible
from online_models.retrievers.newest import Newest
from online_models.retrievers.popular import Popular
from online_models.retrievers.recent_history import again
from online_models.retrievers.session_knn import Sessions, SessionSettings
from online_models.retrievers.top_k import Hidden, nothing_hidden
from online_models.retrievers.trending import Trending
from online_models.retrievers.two_tower import TwoTower, TwoTowerSettings
from online_models.state.item_table import NO_TIME, Actions, Items, People
from online_models.state.workspace import Scratch
from stream.records.batches import N_CONTEXT, EventType, Questions


class Offers:
    """One of each retriever over the same items. Not for several threads at once: kernels share scratch space."""

    def __init__(
        self, items: Items, covisit: CovisitSettings, sessions: SessionSettings, two_tower: TwoTowerSettings
    ) -> None:
        self._items = items
        self.scratch = Scratch()
        self._eligible = np.ones(1024, np.uint8)
        self.covisits = Covisits(items, self.scratch, covisit)
        self.sessions = Sessions(items, self.scratch, sessions)
        self.tower = TwoTower(items, self.scratch, two_tower)
        self.popular, self.trending, self.newest = Popular(items), Trending(items), Newest(items)

    def reserve(self) -> None:
        """Make room for all items that there are."""
        self.scratch.reserve(len(self._items))
        if self._eligible.size < len(self._items):
            self._eligible = np.ones(2 * len(self._items), np.uint8)

    def learn(self, actions: Actions, met: np.ndarray) -> None:
        """What people did, and rows of items that were met for the first time."""
        self.covisits.learn(actions)
        self.sessions.learn(actions)
        self.tower.learn(actions)
        acted = np.unique(actions.row)
        for board in (self.popular, self.trending):
            board.learn(acted)
        self.newest.learn(met)

    def candidates(
        self,
        people: People,
        k: int,
        eligible: np.ndarray | None = None,
        hidden: Hidden | None = None,
        fresh: np.ndarray | None = None,
    ) -> Found:
        """Up to k items per channel for each question, and all item rows of `fresh` that may be found.

        `eligible`: (≥ rows,) uint8 by item row, None = all. What comes for one question hangs on none of the others,
        but that all are asked at the time of the latest.
        """
        eligible = self._eligible if eligible is None else eligible
        hidden = hidden or nothing_hidden(len(people.questions))
        channels = self.find(people, k, hidden, hidden, eligible)
        channels[Channel.two_tower] = self.tower.candidates(people, k, eligible, hidden)
        if fresh is not None and fresh.size:
            # First, so that no limit cuts them off.
            channels = {Channel.fresh: first_eligible(fresh, eligible, k)} | channels
        return merged(channels, k, hidden, self.scratch)

    def find(
        self, people: People, k: int, hidden: Hidden, from_again: Hidden, eligible: np.ndarray | None = None
    ) -> dict[Channel, np.ndarray]:
        """What each channel finds; only the tower is left out, so that what learns does not hang on its index."""
        eligible = self._eligible if eligible is None else eligible
        ts, scratch = int(people.questions.ts.max(initial=0)), self.scratch
        wide = k + hidden.most  # of what is the same for all, enough that some is not hidden
        return {
            Channel.again: again(people, min(k, 16), eligible, from_again, scratch),
            Channel.covisit: self.covisits.candidates(people, k, eligible, hidden),
            Channel.sessions: self.sessions.candidates(people, k, eligible, hidden),
            Channel.trending: self.trending.candidates(ts, wide, eligible),
            Channel.popular: self.popular.candidates(wide, eligible),
            Channel.newest: self.newest.candidates(ts, wide, eligible),
        }

    def similar(self, row: int, k: int) -> Found:
        """Up to 3 k neighbours of an item, as found for a person who has met nothing else."""
        nobody = Questions(
            ts=self._items.counters["stamp"][[row]], user=np.zeros(1, np.uint64), surface=np.zeros(1, np.uint64),
            context=np.zeros((1, N_CONTEXT), np.uint64), session_start=np.full(1, NO_TIME),
            session_depth=np.ones(1, np.int32), rates=np.zeros((1, len(EventType)), np.float32),
            history_start=np.array([0, 1]), history_item=self._items.keys[[row]],
            history_type=np.array([EventType.click], np.uint8), history_ts=self._items.counters["stamp"][[row]],
            shown_start=np.zeros(2, np.int64), shown_item=np.zeros(0, np.uint64),
        )  # fmt: skip
        people, hidden = self._items.people(nobody), nothing_hidden(1)
        near = {
            Channel.covisit: self.covisits.candidates(people, k, self._eligible, hidden),
            Channel.sessions: self.sessions.candidates(people, k, self._eligible, hidden),
            Channel.two_tower: self.tower.candidates(people, k, self._eligible, hidden),
        }
        return merged(near, k, hidden, self.scratch)
