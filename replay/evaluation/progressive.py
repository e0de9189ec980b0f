"""Progressive validation: predict each micro-batch, then train on it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from replay.evaluation.baselines.cooccurrence import Cooccurrence
from replay.evaluation.baselines.item_index import ItemIndex, get_item_keys, positive_rows
from replay.evaluation.baselines.popularity import DecayedPopularity, PopularityBaseline
from replay.evaluation.baselines.ranking import RankResults, TargetQueries, make_queries
from replay.evaluation.baselines.shown_lists import DecayedClicks, DecayedCTR, ListScores, OriginalOrder
from replay.evaluation.live_pipeline import Pipeline
from replay.evaluation.pending_impressions import MAX_WAIT, PendingImpressions, ShownList, slice_scores
from replay.evaluation.ranking_metrics import ClickMetrics, ListMetrics, TopKMetrics
from stream.records.batches import ExampleBatch, Kind
from stream.worker.joiner import POSITIVE_TYPES


class EvaluatedModel(Protocol):
    def learn(self, batch: ExampleBatch) -> None:
        """Train on a micro-batch after its evaluation."""
        ...


class CandidateModel(EvaluatedModel, Protocol):
    """A model that recommends items."""

    def rank_targets(self, batch: ExampleBatch, queries: TargetQueries) -> RankResults:
        """Rank items for the queries of some rows; there is at least one."""
        ...


class ListScorer(EvaluatedModel, Protocol):
    """A model that scores shown lists."""

    def score_lists(self, batch: ExampleBatch, rows: np.ndarray) -> ListScores:
        """Score the lists of the rows, concatenated. `batch` contains no clicks on them."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """Evaluation protocol."""

    k: int = 10
    repeats: bool = False  # allow items that the user has already interacted with
    evaluate_from: int = 0  # number of events that only train
    evaluate_every: int = 1  # every n-th action; shown lists are cheap and all evaluated

    def __post_init__(self) -> None:
        if self.k < 1 or self.evaluate_every < 1 or self.evaluate_from < 0:
            raise ValueError(f"k and evaluate_every must be ≥ 1 and evaluate_from ≥ 0, got {self}")


@dataclass(slots=True)
class ModelMetrics:
    """Metrics of one model."""

    k: int
    seconds: float = 0.0
    top_k: TopKMetrics = field(init=False)
    returning_users: TopKMetrics = field(init=False)  # users with earlier actions only
    lists: ListMetrics = field(default_factory=ListMetrics)
    clicks: ClickMetrics = field(default_factory=ClickMetrics)
    recommended_items: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.top_k, self.returning_users = TopKMetrics(self.k), TopKMetrics(self.k)

    @contextmanager
    def measure_time(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started


@dataclass(slots=True)
class EventCounts:
    """Counts of events and of evaluated targets."""

    events: int = 0
    impressions: int = 0
    actions: int = 0
    unseen_targets: int = 0  # targets without an earlier event: a miss for every model
    repeat_targets: int = 0  # targets the user had interacted with: a miss unless repeats are allowed
    last_ts: int = 0


class ProgressiveEvaluator:
    """Evaluate the pipeline and the baselines on one stream of events."""

    def __init__(self, pipeline: Pipeline, settings: EvaluationSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._item_index = item_index = ItemIndex()
        k = settings.k
        self.candidate_models: dict[str, CandidateModel] = {
            "headrace": pipeline,
            "popularity": PopularityBaseline(item_index, k),
            "decayed_popularity": DecayedPopularity(item_index, k),
            "cooccurrence": Cooccurrence(item_index, k),
        }
        self.list_scorers: dict[str, ListScorer] = {
            "headrace": pipeline,
            "original_order": OriginalOrder(),
            "decayed_clicks": DecayedClicks(item_index),
            "decayed_ctr": DecayedCTR(item_index),
        }
        self._models: dict[str, EvaluatedModel] = {**self.candidate_models, **self.list_scorers}
        self.metrics = {name: ModelMetrics(k) for name in self._models}
        self.counts = EventCounts()
        self._interacted: dict[int, set[int]] = {}  # item keys by user key
        self._pending = PendingImpressions(MAX_WAIT)
        self._n_actions = 0  # candidates for evaluation so far

    def step(self, lines: Sequence[bytes]) -> None:
        """Predict one micro-batch, then train on it."""
        with self.metrics["headrace"].measure_time():
            batch = self._pipeline.stream(lines)
        if batch is None:
            return
        self._score_lists(batch)
        self._evaluate_actions(batch)
        self._update_clicks(batch)
        self._learn(batch)

    def finish(self) -> None:
        """Evaluate the lists that still wait; there are no more events."""
        for shown_list in self._pending.pop_all():
            self._evaluate_list(shown_list)

    def values(self) -> dict[str, dict[str, Any]]:
        """Metrics by model; list scorers only if there were impressions."""
        names = self._models if self.counts.impressions else self.candidate_models
        return {name: self._summarize(name, self.metrics[name]) for name in names}

    def _score_lists(self, batch: ExampleBatch) -> None:
        """Store the scores of all models for the shown lists, before training on this batch."""
        shown_rows = np.flatnonzero(batch.kind == Kind.shown)
        self.counts.impressions += shown_rows.size
        rows = shown_rows[batch.offset[shown_rows] >= self._settings.evaluate_from]
        if rows.size == 0:
            return
        batch_scores = {}
        for name, scorer in self.list_scorers.items():
            with self.metrics[name].measure_time():
                batch_scores[name] = scorer.score_lists(batch, rows)
        lists = batch.lists.take(rows)
        for i, row in enumerate(rows.tolist()):
            span = int(lists.start[i]), int(lists.start[i + 1])
            list_scores = {name: slice_scores(scores, *span) for name, scores in batch_scores.items()}
            items = lists.item[slice(*span)].tolist()
            user = int(batch.queries.user[row])
            shown_list = ShownList(int(batch.ts[row]), user, items, list_scores, set())
            self._pending.add(int(batch.impression[row]), shown_list)

    def _evaluate_actions(self, batch: ExampleBatch) -> None:
        """Rank the targets of the sampled actions, all with the state before this batch."""
        rows = positive_rows(batch)
        self.counts.events += int(((batch.kind == Kind.shown) | (batch.kind == Kind.action)).sum())
        sampled, interacted_before = [], []
        targets, users = get_item_keys(batch, rows), batch.queries.user[rows]
        for i, (user, target) in enumerate(zip(users.tolist(), targets.tolist(), strict=True)):
            interacted = self._interacted.setdefault(user, set())
            if batch.offset[rows[i]] >= self._settings.evaluate_from and self._is_sampled():
                sampled.append(i)
                interacted_before.append(sorted(interacted))
                self.counts.repeat_targets += target in interacted
            interacted.add(target)
        if sampled:
            excluded = [[] for _ in sampled] if self._settings.repeats else interacted_before
            is_returning = np.array([len(items) > 0 for items in interacted_before])
            self._evaluate_queries(batch, make_queries(rows[sampled], targets[sampled], excluded), is_returning)

    def _evaluate_queries(self, batch: ExampleBatch, queries: TargetQueries, is_returning: np.ndarray) -> None:
        self.counts.actions += len(queries)
        self.counts.unseen_targets += int((self._item_index.lookup(queries.target) < 0).sum())
        users = batch.queries.user[queries.rows]
        for name, model in self.candidate_models.items():
            model_metrics = self.metrics[name]
            with model_metrics.measure_time():
                results = model.rank_targets(batch, queries)
            model_metrics.recommended_items.update(np.unique(results.top).tolist())
            model_metrics.top_k.update(results.rank, users)
            model_metrics.returning_users.update(results.rank[is_returning], users[is_returning])

    def _update_clicks(self, batch: ExampleBatch) -> None:
        is_click = (batch.kind == Kind.action) & (batch.impression != 0) & np.isin(batch.type, POSITIVE_TYPES)
        for row in np.flatnonzero(is_click).tolist():
            item = int(batch.lists.item[batch.lists.start[row]])
            self._pending.record_action(int(batch.impression[row]), int(batch.queries.user[row]), item)
        for row in np.flatnonzero(batch.kind == Kind.closed).tolist():
            shown_list = self._pending.get(int(batch.impression[row]))
            labels = batch.lists.label[batch.lists.start[row] : batch.lists.start[row + 1]]
            if shown_list is not None and len(shown_list.items) == labels.size:
                for name, scores in shown_list.scores.items():
                    self.metrics[name].clicks.update(scores.scores, scores.probabilities, labels)
        self.counts.last_ts = max(self.counts.last_ts, int(batch.ts.max()))
        for shown_list in self._pending.pop_expired(self.counts.last_ts):
            self._evaluate_list(shown_list)

    def _evaluate_list(self, shown_list: ShownList) -> None:
        if len(shown_list.clicked) == 1 and len(shown_list.items) > 1:
            for name, scores in shown_list.scores.items():
                self.metrics[name].lists.update(scores.scores, min(shown_list.clicked))

    def _learn(self, batch: ExampleBatch) -> None:
        self._item_index.add(batch.lists.item)
        for name, model in self._models.items():
            with self.metrics[name].measure_time():
                model.learn(batch)

    def _is_sampled(self) -> bool:
        self._n_actions += 1
        return (self._n_actions - 1) % self._settings.evaluate_every == 0

    def _summarize(self, name: str, model_metrics: ModelMetrics) -> dict[str, Any]:
        has_coverage = name in self.candidate_models and len(self._item_index)
        returning = model_metrics.returning_users.values()
        seconds = model_metrics.seconds
        return {
            **model_metrics.top_k.values(),
            "coverage": len(model_metrics.recommended_items - {0}) / len(self._item_index) if has_coverage else None,
            **model_metrics.clicks.values(),
            **model_metrics.lists.values(),
            "returning_recall": returning["recall"],
            "returning_mrr": returning["mrr"],
            "events_per_second": round(self.counts.events / seconds, 1) if seconds else None,
            "evaluated_actions": model_metrics.top_k.n_targets,
            "evaluated_returning": model_metrics.returning_users.n_targets,
            "evaluated_impressions": model_metrics.lists.n_lists,
        }
