"""Everything that learns, composed: the learner, the serving replica and offline evaluation all drive this."""

from dataclasses import dataclass, field, replace

import numpy as np

from online_models.bandits.category_residual import CategoryResidualBandit
from online_models.features.extractor import FeatureExtractor
from online_models.features.history_filter import HistoryFilter
from online_models.features.served_features import ServedFeatures
from online_models.progressive_predictions import (
    ClickRanks,
    ClosedImpressions,
    PersonalizationGain,
    measure_personalization,
    rank_clicks,
)
from online_models.protocols import Stateful
from online_models.rankers.click_head import ClickHead
from online_models.rankers.listnet import ListNet, ListNetSettings
from online_models.retrievers.candidates import Candidates, merge_candidates
from online_models.retrievers.covisitation import CovisitSettings
from online_models.retrievers.ensemble import RetrieverEnsemble
from online_models.retrievers.session_knn import SessionSettings
from online_models.retrievers.top_k import Exclusions, empty_exclusions
from online_models.retrievers.two_tower import TwoTowerSettings
from online_models.state.contribution_caps import ContributionCaps
from online_models.state.item_table import NO_TIME, ItemLists, ItemTable, UserQueries, select_actions
from online_models.state.tables import State, prefix_states, substate
from online_models.step_report import StepReport
from stream.records.batches import CandidateLists, ExampleBatch, Kind, Queries, flatten_ragged, query_rows


@dataclass(frozen=True, slots=True)
class ModelSettings:
    covisit: CovisitSettings = field(default_factory=CovisitSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    two_tower: TwoTowerSettings = field(default_factory=TwoTowerSettings)
    ranker: ListNetSettings = field(default_factory=ListNetSettings)
    training_candidates: int = 30  # per channel, in the lists by which organic actions train the ranker
    training_actions: int = 128  # actions of one batch that train the ranker, evenly chosen when there are more

    def __post_init__(self) -> None:
        if self.training_candidates < 1 or self.training_actions < 0:
            raise ValueError(f"learnt_candidates must be ≥ 1 and learnt_actions ≥ 0, got {self}")


def settings_with_seed(seed: int) -> ModelSettings:
    """The default settings, with another chance for each seed."""
    defaults = ModelSettings()
    return replace(
        defaults,
        two_tower=replace(defaults.two_tower, seed=defaults.two_tower.seed + 2 * seed),  # of two tables, a seed each
        ranker=replace(defaults.ranker, seed=defaults.ranker.seed + seed),
    )


def unranked(start: np.ndarray, row: np.ndarray) -> ItemLists:
    """Candidates as lists that have no places yet."""
    return ItemLists(start, row, np.full(row.size, -1, np.int16), np.full(row.size, np.nan, np.float32))


class RecommenderModel:
    """Items, retrievers, features and ranker, with one order of learning and one form of state.

    Not for several threads at once: kernels share scratch space.
    """

    def __init__(self, settings: ModelSettings | None = None) -> None:
        self.settings = setting = settings or ModelSettings()
        self.items = ItemTable()
        self.history_filter, self.contribution_caps = HistoryFilter(), ContributionCaps()
        self._retrievers = retrievers = RetrieverEnsemble(
            self.items, setting.covisit, setting.sessions, setting.two_tower
        )
        self.covisitation, self.session_knn, self.two_tower = (
            retrievers.covisits,
            retrievers.sessions,
            retrievers.two_tower,
        )
        self.popular, self.trending, self.newest = retrievers.popular, retrievers.trending, retrievers.newest
        self._feature_extractor = FeatureExtractor(
            self.items, (self.covisitation, self.session_knn, self.two_tower), retrievers.workspace
        )
        self.candidate_ranker = ListNet(
            len(self._feature_extractor), setting.ranker
        )  # of all candidates, which one will be taken
        self.slate_ranker = ListNet(
            len(self._feature_extractor), setting.ranker
        )  # of what is shown, which one will be taken
        self.click_head = ClickHead(len(self._feature_extractor) + setting.ranker.hidden)
        self.bandit = CategoryResidualBandit(self.items, self._feature_extractor.names)
        self.closed_impressions, self.personalization_gain, self.click_ranks = (
            ClosedImpressions(),
            PersonalizationGain(),
            ClickRanks(),
        )
        self._served_features = ServedFeatures(self._feature_extractor)

    @property
    def report(self) -> StepReport:
        reports, n_closed = (self.slate_ranker.report, self.candidate_ranker.report), self.closed_impressions.label.size
        return StepReport(*reports, self.two_tower.report, n_closed, self.click_head.update_norm)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self._feature_extractor.names

    # Rows

    def add_items(self, keys: np.ndarray) -> np.ndarray:
        """Item rows of keys, (n,) int32; unknown items get a row, 0 gets -1."""
        rows = self.items.add_keys(keys)
        self.two_tower.add_keys(keys)
        self._retrievers.reserve()
        return rows

    def set_item_attributes(
        self, keys: np.ndarray, categories: np.ndarray, created: np.ndarray, price: np.ndarray
    ) -> np.ndarray:
        """Admit items with what the catalogue says of them; returns their rows.

        `categories`: (n, 4) uint64 keys, 0 = none; `created`: (n,) int64 ms, NO_TIME = unknown; `price`: (n,) float32,
        NaN = unknown.
        """
        rows = self.add_items(keys)
        known = rows >= 0
        self.items.set_attributes(rows[known], categories[known], created[known], price[known])
        self.newest.learn(rows[known & (created > NO_TIME)])
        return rows

    # Learning

    def learn(self, batch: ExampleBatch) -> None:
        """One step: features from the state before the batch, then the ranker, then what counts and what embeds."""
        if len(batch) == 0:
            return
        self.add_items(batch.lists.item)
        users, item_lists = self.resolve_queries(batch.queries), self.items.resolve_lists(batch.lists)
        is_capped = self.contribution_caps.update(batch)
        actions, action_rows = select_actions(batch, self.items, users, is_capped)
        training_lists = self._candidate_training_lists(users.take(query_rows(batch)[action_rows]), actions.row)
        self._train_slate_ranker(batch, users, item_lists)
        self.candidate_ranker.learn_lists(*training_lists)
        self._train_click_head(batch, users, item_lists)
        self._served_features.cache_shown(batch, users, item_lists)
        self.items.learn(batch, is_capped)
        item_rows = np.unique(item_lists.row)
        self._retrievers.learn(
            actions, item_rows[(item_rows >= 0) & (self.items.counters["first"][item_rows] >= batch.ts.min())]
        )

    def _train_slate_ranker(self, batch: ExampleBatch, users: UserQueries, item_lists: ItemLists) -> None:
        """Learn lists of which something was taken just now, with the features that they were shown with."""
        rows = np.flatnonzero(batch.kind == Kind.clicked)
        x, start = self._served_features.lookup(batch, rows, users, item_lists)
        flat, _ = flatten_ragged(batch.lists.start, rows)
        lists = x, batch.lists.label[flat], start
        trial_features = self._extract_trial_features(batch.queries.take(rows), rows, item_lists) if rows.size else None
        self.click_ranks = rank_clicks(batch, rows, self.predict_click_probability(x))
        self.personalization_gain = measure_personalization(
            self.slate_ranker, batch.queries.ts[rows], lists, self._feature_extractor.is_personal, trial_features
        )
        self.slate_ranker.learn_lists(*lists)

    def _extract_trial_features(
        self, queries: Queries, rows: np.ndarray, item_lists: ItemLists
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Features of lists as they are, and with the past that is tried; None if none is."""
        trial_queries = self.history_filter.filter_for_trial(queries)
        if trial_queries is None:
            return None
        variants = self.resolve_queries(queries), self.items.resolve_queries(trial_queries)
        current, trial = (self._served_features.compute(users, rows, item_lists)[0] for users in variants)
        return current, trial

    def _candidate_training_lists(
        self, users: UserQueries, target_rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For actions, what all channels would have offered, with the item that was taken as the label."""
        max_actions = self.settings.training_actions
        if target_rows.size > max_actions:
            sampled = np.arange(max_actions) * target_rows.size // max_actions
            users, target_rows = users.take(sampled), target_rows[sampled]
        interacted = Exclusions(users.queries.history_start, users.history)
        k = self.settings.training_candidates
        channels = self._retrievers.retrieve_by_channel(users, k, interacted, empty_exclusions(len(users.queries)))
        candidates = merge_candidates(channels, k, interacted, self._retrievers.workspace)
        item_lists = unranked(candidates.start, candidates.row)
        label = (candidates.row == np.repeat(target_rows, np.diff(candidates.start))).astype(np.float32)
        return self._feature_extractor.extract(users, item_lists), label, candidates.start

    def predict_clicks(self, batch: ExampleBatch) -> ClickRanks:
        """What is taken of slates, and how it was predicted; nothing is learnt."""
        rows = np.flatnonzero(batch.kind == Kind.clicked)
        x, _ = self._served_features.lookup(
            batch, rows, self.resolve_queries(batch.queries), self.items.resolve_lists(batch.lists)
        )
        return rank_clicks(batch, rows, self.predict_click_probability(x))

    def _train_click_head(self, batch: ExampleBatch, users: UserQueries, item_lists: ItemLists) -> None:
        rows = np.flatnonzero(batch.kind == Kind.closed)
        x, _ = self._served_features.lookup(batch, rows, users, item_lists)
        flat, _ = flatten_ragged(batch.lists.start, rows)
        hidden, label = self.slate_ranker.hidden(x), batch.lists.label[flat]
        self.closed_impressions = ClosedImpressions(self.click_head.predict(hidden), label, x)
        self.click_head.learn(hidden, label)
        ts = np.repeat(batch.ts[rows], np.diff(batch.lists.start)[rows])
        self.bandit.learn(item_lists.row[flat], x, self.closed_impressions.probability, label, ts)

    # Answering

    def resolve_queries(self, queries: Queries) -> UserQueries:
        """Who asks, with what counts of their past."""
        return self.items.resolve_queries(self.history_filter.filter_queries(queries))

    def retrieve(
        self,
        users: UserQueries,
        k: int,
        eligible: np.ndarray | None = None,
        exclusions: Exclusions | None = None,
        cold_start_rows: np.ndarray | None = None,
    ) -> Candidates:
        """Up to k items per channel for each question, and all item rows of `fresh` that may be found; see `Offers`."""
        return self._retrievers.retrieve(users, k, eligible, exclusions, cold_start_rows)

    def find_similar(self, row: int, k: int) -> Candidates:
        """Up to 3 k neighbours of an item, as found for a person who has met nothing else."""
        return self._retrievers.find_similar(row, k)

    def extract_features(self, queries: Queries, lists: CandidateLists) -> np.ndarray:
        """(m, len(feature_names)) float32: what `score` and `probability` see, to be logged as served."""
        return self._feature_extractor.extract(self.resolve_queries(queries), self.items.resolve_lists(lists))

    def extract_candidate_features(self, users: UserQueries, start: np.ndarray, row: np.ndarray) -> np.ndarray:
        """The same of candidates, (m,) int32 item rows or -1, in lists that begin at `start`, (n + 1,) int64."""
        return self._feature_extractor.extract(users, unranked(start, row))

    def score_candidates(self, features: np.ndarray, feedback_weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Scores, (m,) float32, comparable within a list, by which to pick a slate; and log-odds of being acted on.

        `trust` is the weight, 0 to 1, of what people did with what they were shown, against what they picked of
        everything. How well items do once shown is in log-odds, calibrated among all and sharpened in a slate.
        """
        hidden = self.slate_ranker.hidden(features)
        log_odds = self.click_head.log_odds(hidden)
        if feedback_weight == 0:
            return self.score(features), log_odds
        scores: np.ndarray = log_odds + np.float32(0.5) * self.slate_ranker.scores_from_hidden(hidden)
        if feedback_weight < 1:
            scores = np.float32(feedback_weight) * scores + np.float32(1 - feedback_weight) * self.score(features)
        return scores, log_odds

    def score(self, features: np.ndarray) -> np.ndarray:
        """Scores, (m,) float32, comparable within a list, by which to pick a slate from all candidates."""
        return self.candidate_ranker.scores(features)

    def score_slate(self, features: np.ndarray) -> np.ndarray:
        """Scores, (m,) float32, comparable within a list, by which to order (or judge) a slate that is shown."""
        return self.slate_ranker.scores(features)

    def predict_click_probability(self, features: np.ndarray) -> np.ndarray:
        """Calibrated probability that a shown item is acted on, (m,) float32."""
        return self.click_head.predict(self.slate_ranker.hidden(features))

    # State

    def _parts(self) -> dict[str, Stateful]:
        return {
            "items": self.items,
            "history_filter": self.history_filter,
            "contribution_caps": self.contribution_caps,
            "covisitation": self.covisitation,
            "session_knn": self.session_knn,
            "two_tower": self.two_tower,
            "popular": self.popular,
            "trending": self.trending,
            "newest": self.newest,
            "candidate_ranker": self.candidate_ranker,
            "slate_ranker": self.slate_ranker,
            "click_head": self.click_head,
            "bandit": self.bandit,
        }

    def state(self) -> State:
        parts = {name: part.state() for name, part in self._parts().items()}
        return prefix_states(parts | {"feature_cache": self._served_features.state()})

    def restore(self, state: State) -> None:
        for name, part in self._parts().items():
            part.restore(substate(state, name))
        self._served_features.restore(substate(state, "feature_cache"))
        self._retrievers.reserve()

    def changes(self) -> State:
        return prefix_states({name: part.changes() for name, part in self._parts().items()})

    def apply(self, changes: State) -> None:
        for name, part in self._parts().items():
            part.apply(substate(changes, name))
        self._retrievers.reserve()
