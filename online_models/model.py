"""The recommender model: all trained parts behind one `learn` and one state."""

from dataclasses import dataclass, field, replace

import numpy as np

from online_models.bandits.category_residual import CategoryResidualBandit
from online_models.features.extractor import FeatureExtractor
from online_models.features.history_filter import NO_TRIAL, HistoryFilter
from online_models.features.served_features import ServedFeatures
from online_models.fields.field_table import FieldSettings, FieldTable, read_field_settings
from online_models.plugins import create_ranker
from online_models.progressive_predictions import (
    ClickPredictor,
    ClickRanks,
    ClosedImpressions,
    SlateScores,
    measure_personalization,
    rank_clicks,
)
from online_models.protocols import LearnReport, Ranker, RankerSettings, Stateful
from online_models.rankers.click_head import ClickHead, sigmoid
from online_models.rankers.position_bias import PositionBias
from online_models.rankers.state_identity import StateIdentity
from online_models.retrievers.candidates import Candidates, Exclusions
from online_models.retrievers.ensemble import RetrieverEnsemble, RetrieverSettings
from online_models.state.contribution_caps import ContributionCaps
from online_models.state.history_changes import find_merges, find_retractions, uncount
from online_models.state.item_table import NO_TIME, ItemLists, ItemTable, UserQueries, select_actions
from online_models.state.row_count import RowCount
from online_models.state.tables import State, prefix_states, substate
from online_models.step_result import StepReport, StepResult
from stream.config import Settings
from stream.records.batches import CandidateLists, ExampleBatch, Kind, ListView, Queries, query_rows


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings of the parts, and of the candidate lists that train the candidate ranker."""

    retrievers: RetrieverSettings = field(default_factory=RetrieverSettings)
    ranker: RankerSettings = field(default_factory=RankerSettings)
    fields: FieldSettings = field(default_factory=FieldSettings)
    training_candidates: int = 30  # per channel, in the candidate list of each training action
    training_actions: int = 128  # maximum per batch; more are sampled by hash
    min_batch: int = 16  # rows, of the first training batches
    max_batch_ratio: float = 1 / 32  # of the rows trained so far
    max_named_items: int = 1_000_000  # rows of items that events name and the catalog does not have

    def __post_init__(self) -> None:
        if self.training_candidates < 1 or min(self.training_actions, self.max_named_items) < 0:
            raise ValueError(f"training_candidates must be ≥ 1, the other numbers ≥ 0, got {self}")


def settings_with_seed(seed: int, ranker: str = "listnet", fields: FieldSettings | None = None) -> ModelSettings:
    """Default settings with this ranker and fields, and initial weights drawn from this seed."""
    defaults = ModelSettings()
    two_tower = defaults.retrievers.two_tower
    two_tower = replace(two_tower, seed=two_tower.seed + 2 * seed)  # one for each of two tables
    return replace(
        defaults,
        retrievers=replace(defaults.retrievers, two_tower=two_tower),
        ranker=RankerSettings(ranker, seed=defaults.ranker.seed + seed),
        fields=fields or defaults.fields,
    )


def settings_from_config(settings: Settings, ranker: str | None = None) -> ModelSettings:
    """Settings of the model that `learn` and `serve` use; by default with the configured ranker."""
    learn = settings.learn
    return settings_with_seed(learn.seed, ranker or learn.ranker, read_field_settings(settings.fields))


def unranked(start: np.ndarray, row: np.ndarray) -> ItemLists:
    """Build lists of candidates, (m,) int32 item rows, that have no positions yet."""
    return ItemLists(start, row, np.full(row.size, -1, np.int16), np.full(row.size, np.nan, np.float32))


def sample_by_hash(keys: np.ndarray, n: int) -> np.ndarray:
    """Rows of at most n keys, (m,) uint64 hashes, in their order: those with the smallest hash.

    >>> sample_by_hash(np.array([9, 2, 7, 1], np.uint64), 2).tolist()
    [1, 3]
    """
    return np.arange(keys.size) if keys.size <= n else np.sort(np.argpartition(keys, n)[:n])


_LISTS_PER_HIDDEN = 4  # one list in so many trains without positions too


def _one_list(features: np.ndarray) -> np.ndarray:
    return np.array([0, features.shape[0]])


class RecommenderModel:
    """Items, retrievers, features, rankers, click head and bandit.

    The learner, the serving replica and offline evaluation all use this class. Not thread-safe: the kernels share a
    workspace.
    """

    def __init__(self, settings: ModelSettings | None = None) -> None:
        self.settings = setting = settings or ModelSettings()
        self.items = ItemTable()
        self.fields = FieldTable(setting.fields)
        self.history_filter, self.contribution_caps = HistoryFilter(), ContributionCaps()
        self._retrievers = retrievers = RetrieverEnsemble(self.items, setting.retrievers)
        self.covisitation, self.two_tower = retrievers.covisitation, retrievers.two_tower
        self._feature_extractor = FeatureExtractor(self.items, tuple(retrievers.parts.values()), retrievers.workspace)
        self._served_features = ServedFeatures(self._feature_extractor)
        self._identity = StateIdentity(setting.ranker.name, self._feature_extractor.names)
        self._trained_rows = RowCount()
        self._make_rankers()
        self.bandit = CategoryResidualBandit(self.items, self._feature_extractor.names)

    def _make_rankers(self) -> None:
        """Start untrained rankers, and the click head over the slate ranker."""
        candidates = replace(self.settings.ranker, lists="candidates")
        self.candidate_ranker = create_ranker(self.feature_names, candidates)  # trained on user actions
        self.slate_ranker, self.click_head = self._make_slate_ranker()  # trained on clicked and closed slates
        self.position_bias = PositionBias()

    def _make_slate_ranker(self) -> tuple[Ranker, ClickHead]:
        ranker = create_ranker(self.feature_names, self.settings.ranker)
        return ranker, ClickHead(len(self.feature_names) + ranker.width)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self._feature_extractor.names

    # Rows

    def add_items(self, keys: np.ndarray) -> np.ndarray:
        """Return the item rows of keys, (n,) int32. An unknown key gets a new row; key 0 gets -1."""
        return self.items.add_keys(keys)

    def set_item_attributes(
        self, keys: np.ndarray, categories: np.ndarray, created: np.ndarray, price: np.ndarray
    ) -> np.ndarray:
        """Add items with their catalog attributes; return their rows.

        `categories`: (n, ≤ N_CATEGORIES) uint64 keys, 0 = none; `created`: (n,) int64 ms, NO_TIME = unknown; `price`:
        (n,) float32, NaN = unknown.
        """
        rows = self.add_items(keys)
        known = rows >= 0
        self.items.set_attributes(rows[known], categories[known], created[known], price[known])
        self._retrievers.learn_items(rows[known & (created > NO_TIME)])
        return rows

    def set_items_deleted(self, keys: np.ndarray) -> None:
        """Remember items that the catalog has deleted; they keep their row, or get one."""
        self.items.set_deleted(self.add_items(keys))

    # Learning

    @property
    def batch_limit(self) -> int:
        """Rows of the next training batch at most.

        All predictions of a batch use the state before it. A large batch is good only for a model that it changes
        little, so the limit grows with the rows trained so far. However a log is divided, its first rows train in small
        batches.
        """
        return max(self.settings.min_batch, int(self._trained_rows.value * self.settings.max_batch_ratio))

    def learn(self, batch: ExampleBatch, trial_start: int | None = NO_TRIAL) -> StepResult:
        """Take one step: predict with the state before the batch, then train each part on it.

        `trial_start`: ms, also predict with histories that start there; this changes nothing that is learned.
        """
        if len(batch) == 0:
            return StepResult(batch)
        self._trained_rows.add(len(batch))
        self.fields.admit(batch.queries.user_keys)
        n_left_out = self.items.add_named(batch.lists.item, self.settings.max_named_items)
        users, item_lists = self.resolve_queries(batch.queries), self.items.resolve_lists(batch.lists)
        is_capped, cap_violations = self.contribution_caps.update(batch)
        actions, action_rows = select_actions(batch, self.items, users, is_capped)
        requesters = users.take(query_rows(batch)[action_rows])  # each action's user when the item was requested

        sampled = sample_by_hash(batch.event[action_rows], self.settings.training_actions)
        candidate_lists = self._make_candidate_lists(requesters.take(sampled), actions.row[sampled])
        lookup = self._served_features.lookup
        clicked, clicked_x, n_clicked_forgotten = lookup(batch, Kind.clicked, users, item_lists)
        closed, closed_x, n_closed_forgotten = lookup(batch, Kind.closed, users, item_lists)
        trial_x = self._extract_trial_features(batch, clicked, item_lists, trial_start)

        hidden = self.slate_ranker.hidden(clicked_x)
        offset = self.position_offsets(batch, clicked, clicked_x)
        clicks = rank_clicks(batch, clicked, self.click_head.log_odds(hidden) + offset)
        scores = self._score_clicked_slates(clicked_x, clicked.start, hidden, trial_x)
        gain = measure_personalization(batch.queries.ts[clicked.rows], clicked, scores, trial_start)

        hidden_lists, hidden_x = self._hide_positions(batch, clicked, clicked_x)
        self._train_slate_ranker(batch, hidden_lists, hidden_x)
        slate_report = self._train_slate_ranker(batch, clicked, clicked_x)
        candidate_report = self.candidate_ranker.learn(*candidate_lists)
        closed_impressions, head_norm = self._train_click_head(batch, closed, closed_x, item_lists)

        self._served_features.cache_shown(batch, users, item_lists)
        self.items.learn(batch, is_capped, self.position_bias.exposure(batch))
        tower_report = self._retrievers.learn(actions, self._find_new_items(batch, item_lists))
        self._change_histories(batch)
        report = StepReport(
            slate_report,
            candidate_report,
            tower_report,
            closed.labels.size,
            head_norm,
            unsampled_actions=action_rows.size - sampled.size,
            forgotten_lists=n_clicked_forgotten + n_closed_forgotten,
        )
        return StepResult(
            batch=batch,
            closed=closed_impressions,
            clicks=clicks,
            gain=gain,
            report=report,
            cap_violations=cap_violations,
            items_left_out=n_left_out,
            truncation=self.history_filter.truncation,
        )

    def _change_histories(self, batch: ExampleBatch) -> None:
        """Undo what users have taken back, and relearn the co-visits of merged histories."""
        if found := find_retractions(batch, self.items):
            actions, changes = found
            uncount(self.items, actions)
            self._retrievers.relearn(changes)
        if merges := find_merges(batch, self.items):
            self._retrievers.relearn(merges)

    def _make_candidate_lists(
        self, users: UserQueries, target_rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, labels and starts of each action's candidates; the label marks its item."""
        candidates = self._retrievers.retrieve_for_training(users, self.settings.training_candidates)
        item_lists = unranked(candidates.start, candidates.row)
        label = (candidates.row == np.repeat(target_rows, np.diff(candidates.start))).astype(np.float32)
        return self._feature_extractor.extract(users, item_lists), label, candidates.start

    def _extract_trial_features(
        self, batch: ExampleBatch, clicked: ListView, item_lists: ItemLists, trial_start: int | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Features of clicked slates with current and with trial histories; None without a trial."""
        if trial_start is NO_TRIAL or not clicked.rows.size:
            return None
        queries = batch.queries.take(clicked.rows)
        trial_queries = self.history_filter.filter_for_trial(queries, trial_start)
        current, trial = self.resolve_queries(queries), self.items.resolve_queries(trial_queries)
        compute = self._served_features.compute
        return compute(current, clicked, item_lists), compute(trial, clicked, item_lists)

    def _score_clicked_slates(
        self, x: np.ndarray, start: np.ndarray, hidden: np.ndarray, trial_x: tuple[np.ndarray, np.ndarray] | None
    ) -> SlateScores:
        score = self.slate_ranker.score
        anonymous_x = x.copy()
        anonymous_x[:, self._feature_extractor.is_personal] = 0
        return SlateScores(
            known=self.slate_ranker.scores_from_hidden(x, hidden, start),
            anonymous=score(anonymous_x, start),
            trial=(score(trial_x[0], start), score(trial_x[1], start)) if trial_x else None,
        )

    def _learn_clicks(self, batch: ExampleBatch, view: ListView, x: np.ndarray, hidden: np.ndarray) -> float:
        """Train the click head, and the position bias where features have no positions."""
        update_norm, errors = self.click_head.learn(hidden, view.labels, self.position_offsets(batch, view, x))
        self.position_bias.learn(batch, view, np.where(self._has_position(x), np.float32(np.nan), errors))
        return update_norm

    def _has_position(self, x: np.ndarray) -> np.ndarray:
        has_position: np.ndarray = x[:, self._feature_extractor.position_columns[0]] > 0
        return has_position

    def _train_slate_ranker(self, batch: ExampleBatch, view: ListView, x: np.ndarray) -> LearnReport:
        return self.slate_ranker.learn_shown(x, view.labels, view.start, self.position_offsets(batch, view, x))

    def _hide_positions(self, batch: ExampleBatch, view: ListView, x: np.ndarray) -> tuple[ListView, np.ndarray]:
        """Select by hash some lists whose features have positions; return these without them.

        They train the slate ranker and the click head once more, since requests are answered before any position.
        """
        n_known = np.bincount(view.repeat(np.arange(view.rows.size)), self._has_position(x), view.rows.size)
        is_chosen = (n_known > 0) & (batch.impression[view.rows] % np.uint64(_LISTS_PER_HIDDEN) == 0)
        hidden_x = x[view.repeat(is_chosen)]
        hidden_x[:, self._feature_extractor.position_columns] = 0
        return batch.view(view.rows[is_chosen]), hidden_x

    def _train_click_head(
        self, batch: ExampleBatch, closed: ListView, x: np.ndarray, item_lists: ItemLists
    ) -> tuple[ClosedImpressions, float]:
        """Predict the closed impressions, train click head and bandit, return the update norm too."""
        hidden = self.slate_ranker.hidden(x)
        offset = self.position_offsets(batch, closed, x)
        probability = sigmoid(self.click_head.log_odds(hidden) + offset)
        hidden_lists, hidden_x = self._hide_positions(batch, closed, x)
        self._learn_clicks(batch, hidden_lists, hidden_x, self.slate_ranker.hidden(hidden_x))
        update_norm = self._learn_clicks(batch, closed, x, hidden)
        ts = closed.repeat(batch.ts[closed.rows])
        self.bandit.learn(item_lists.row[closed.flat], x, probability, closed.labels, ts)
        return ClosedImpressions(closed, probability, x, self.feature_names, offset), update_norm

    def _find_new_items(self, batch: ExampleBatch, item_lists: ItemLists) -> np.ndarray:
        """Rows of items whose first event is in this batch."""
        rows = np.unique(item_lists.row)
        is_new = (rows >= 0) & (self.items.counters["first"][rows] >= batch.ts.min())
        return np.compress(is_new, rows)

    def predict_clicks(self, batch: ExampleBatch) -> ClickRanks:
        """Rank the clicked items of a batch by the current model, without training on it."""
        users, item_lists = self.resolve_queries(batch.queries), self.items.resolve_lists(batch.lists)
        clicked, x, _ = self._served_features.lookup(batch, Kind.clicked, users, item_lists)
        return rank_clicks(batch, clicked, self.predict_click_probability(x, self.position_offsets(batch, clicked, x)))

    def copy_click_predictor(self) -> ClickPredictor:
        """Copy the click prediction of the current state, which later training changes."""
        ranker, head = self._make_slate_ranker()
        ranker.restore(self.slate_ranker.state())
        head.restore(self.click_head.state())
        return lambda features, offset: sigmoid(head.log_odds(ranker.hidden(features)) + offset)

    # Serving

    def resolve_queries(self, queries: Queries) -> UserQueries:
        """Filter the histories, and look up the item rows of what they hold."""
        return self.items.resolve_queries(self.history_filter.filter_queries(queries))

    def retrieve(
        self,
        users: UserQueries,
        k: int,
        eligible: np.ndarray | None = None,
        exclusions: Exclusions | None = None,
        cold_start_rows: np.ndarray | None = None,
    ) -> Candidates:
        """Up to k candidates per channel and query; see `RetrieverEnsemble.retrieve`."""
        return self._retrievers.retrieve(users, k, eligible, exclusions, cold_start_rows)

    def rank_board(self, name: str, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """About k rows of the board `popular`, `trending` or `newest` at `ts`, ms; -1 = none."""
        return self._retrievers.rank_board(name, ts, k, eligible)

    def find_similar(self, row: int, k: int) -> Candidates:
        """Up to 3 k neighbors of an item: the candidates of a user who interacted with nothing else."""
        return self._retrievers.find_similar(row, k)

    def measure_similarity(self, row: int, others: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """Similarity of n other items to an item, (n,) float64, 0 to 1."""
        return self._retrievers.measure_similarity(row, others, prior)

    def extract_features(self, queries: Queries, lists: CandidateLists) -> np.ndarray:
        """Features, (m, len(feature_names)) float32, as the rankers see them; logged when served."""
        return self._feature_extractor.extract(self.resolve_queries(queries), self.items.resolve_lists(lists))

    def extract_candidate_features(self, users: UserQueries, start: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Features of candidates, (m,) int32 item rows or -1, in lists that begin at `start`."""
        return self._feature_extractor.extract(users, unranked(start, row))

    def score_candidates(
        self, features: np.ndarray, start: np.ndarray, feedback_weight: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ranking scores, comparable within a list, and log-odds of a click, (m,) float32 each.

        `feedback_weight`, 0 to 1, is the weight of what users did with shown items, against what they picked from the
        whole catalog. The former is the log-odds of the click head, which are calibrated over all items, sharpened by
        the score within the slate.
        """
        hidden = self.slate_ranker.hidden(features)
        log_odds = self.click_head.log_odds(hidden)
        if feedback_weight == 0:
            return self.score(features, start), log_odds
        slate_scores = self.slate_ranker.scores_from_hidden(features, hidden, start)
        scores: np.ndarray = log_odds + np.float32(0.5) * slate_scores
        if feedback_weight < 1:
            candidate_scores = self.score(features, start)
            scores = np.float32(feedback_weight) * scores + np.float32(1 - feedback_weight) * candidate_scores
        return scores, log_odds

    def score(self, features: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Scores of candidates, (m,) float32, comparable within a list; by default, all are one."""
        return self.candidate_ranker.score(features, _one_list(features) if start is None else start)

    def score_slate(self, features: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Scores of shown items, (m,) float32, comparable within a list; by default, all are one."""
        return self.slate_ranker.score(features, _one_list(features) if start is None else start)

    def predict_click_probability(self, features: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
        """Click probability, (m,) float32: in the first position, or with `position_offsets`."""
        return sigmoid(self.click_head.log_odds(self.slate_ranker.hidden(features)) + np.float32(offset))

    def position_offsets(self, batch: ExampleBatch, view: ListView, x: np.ndarray) -> np.ndarray:
        """Log-odds of shown entries by position, (m,) float32; 0 where `x` has the position."""
        return np.where(self._has_position(x), np.float32(0), self.position_bias.offsets(batch, view))

    # State

    @property
    def trained_parts(self) -> tuple[str, ...]:
        """Names of the parts that are trained by gradients, and so must stay finite."""
        return tuple(StepReport().update_norms)

    def _parts(self) -> dict[str, Stateful]:
        return {
            "items": self.items,
            "fields": self.fields,
            "trained_rows": self._trained_rows,
            "history_filter": self.history_filter,
            "contribution_caps": self.contribution_caps,
            **self._retrievers.parts,
            "candidate_ranker": self.candidate_ranker,
            "slate_ranker": self.slate_ranker,
            "click_head": self.click_head,
            "position_bias": self.position_bias,
            "bandit": self.bandit,
        }

    def state(self) -> State:
        parts = {name: part.state() for name, part in self._parts().items()}
        return prefix_states(parts | {"feature_cache": self._served_features.state(), "ranker": self._identity.state()})

    def restore(self, state: State) -> None:
        """Replace all state by a copy of `state`.

        Rankers over other features take what they know by name; those that cannot read it start untrained.
        """
        self._make_rankers()
        parts = self._parts()
        for name, part_state in self._identity.select_restored(parts, state).items():
            parts[name].restore(part_state)
        if self._identity.has_features_of(state):
            self._served_features.restore(substate(state, "feature_cache"))

    def with_ranker(self, name: str) -> "RecommenderModel":
        """Return this model if it has the ranker, else a copy whose ranker starts untrained."""
        if name == self.settings.ranker.name:
            return self
        model = RecommenderModel(replace(self.settings, ranker=replace(self.settings.ranker, name=name)))
        model.restore(self.state())
        return model

    def changes(self) -> State:
        parts = {name: part.changes() for name, part in self._parts().items()}
        return prefix_states(parts | {"ranker": self._identity.state()})

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica, without those of other rankers or features."""
        parts = self._parts()
        for name in self._identity.select_applied(parts, changes):
            parts[name].apply(substate(changes, name))
