"""Predictions of a step from before training: clicks, personalization, closed impressions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from online_models.rankers.list_softmax import log_softmax_by_list
from stream.records.batches import EMPTY_VIEW, ExampleBatch, Kind, ListView

# Features, (m, f) float32, and log-odds by position, (m,) float32, to click probabilities, (m,) float32.
ClickPredictor = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class ClosedImpressions:
    """Shown items whose attribution window closed in this step, predicted before training."""

    lists: ListView = EMPTY_VIEW
    probability: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (m,) of a click
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (m, f)
    feature_names: tuple[str, ...] = ()  # (f,)
    position_offset: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (m,) log-odds by position

    @property
    def label(self) -> np.ndarray:
        """Final labels, (m,) float32."""
        return self.lists.labels


@dataclass(frozen=True, slots=True)
class ClickRanks:
    """Clicked slates, one entry each: the clicked item and its predicted rank before training."""

    row: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) of the batch
    item: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # (n,) clicked item
    rank: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) 1: predicted best of its slate, 0: worst

    def __len__(self) -> int:
        return int(self.row.size)


def rank_clicks(batch: ExampleBatch, view: ListView, probability: np.ndarray) -> ClickRanks:
    """Rank the clicked item of each list by the click probabilities, (m,), of all its entries."""
    lengths, n = view.lengths, view.rows.size
    clicked_items = _find_clicked_items(batch, view.rows)
    list_index = view.repeat(np.arange(n))
    rank = np.empty(view.flat.size, np.int64)
    rank[np.lexsort((probability, list_index))] = np.arange(view.flat.size) - view.repeat(view.start[:-1])
    is_clicked = batch.lists.item[view.flat] == view.repeat(clicked_items)
    relative_rank = np.bincount(list_index, rank * is_clicked, n) / np.maximum(lengths - 1, 1)
    is_valid = (lengths > 1) & (np.bincount(list_index, is_clicked, n) == 1)
    return ClickRanks(view.rows[is_valid], clicked_items[is_valid], relative_rank[is_valid])


def _find_clicked_items(batch: ExampleBatch, rows: np.ndarray) -> np.ndarray:
    """The item clicked in each list, (n,) uint64; 0 where the batch does not hold the action."""
    action_rows = np.flatnonzero(batch.kind == Kind.action)
    if action_rows.size == 0:
        return np.zeros(rows.size, np.uint64)
    action_rows = action_rows[np.argsort(batch.event[action_rows], kind="stable")]
    nearest = np.minimum(np.searchsorted(batch.event[action_rows], batch.event[rows]), action_rows.size - 1)
    items = batch.lists.item[batch.lists.start[action_rows[nearest]]]
    return np.where(batch.event[action_rows[nearest]] == batch.event[rows], items, np.uint64(0))


@dataclass(frozen=True, slots=True)
class PersonalizationGain:
    """Clicked slates, one entry each: log-likelihood ratios of the clicked item before training.

    A ratio compares two softmax probabilities within the slate. A slate whose positions are all equally likely says
    nothing, however poorly its click-through rate is predicted.
    """

    ts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) of the query, ms
    gain: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) known user against anonymous user
    expected_gain: np.ndarray = field(
        default_factory=lambda: np.zeros(0)
    )  # (n,) the same, if the predictions are right
    trial_gain: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) trial history against current history
    trial_start: int | None = None  # ms, of the trial history; None: there was no trial

    def __len__(self) -> int:
        return int(self.ts.size)


class SlateScores(NamedTuple):
    """Ranking scores of the entries of clicked slates, (m,) float32 each."""

    known: np.ndarray  # features as served
    anonymous: np.ndarray  # personal features set to 0
    trial: tuple[np.ndarray, np.ndarray] | None  # features of now, with the current and with the trial history


def measure_personalization(
    ts: np.ndarray, view: ListView, scores: SlateScores, trial_start: int | None
) -> PersonalizationGain:
    """Compare the scores of each clicked slate; `ts`: (n,) of the queries, ms."""
    is_non_empty = view.lengths > 0
    if not is_non_empty.any():
        return PersonalizationGain()
    start = np.append(view.start[:-1][is_non_empty], view.start[-1])
    label = np.maximum(view.labels, 0)
    clicks = np.add.reduceat(label, start[:-1]).astype(np.float64)
    share = label / np.repeat(np.maximum(clicks, 1e-9), np.diff(start))
    known = log_softmax_by_list(scores.known, start)
    gain = known - log_softmax_by_list(scores.anonymous, start)
    trial_gain = np.zeros(gain.size)
    if scores.trial:
        current, trial = (log_softmax_by_list(variant, start) for variant in scores.trial)
        trial_gain = trial - current
    columns = ((share, gain), (np.exp(known), gain), (share, trial_gain))
    gains = np.stack([np.add.reduceat(weight * value, start[:-1]) for weight, value in columns])
    is_valid = (clicks > 0) & np.isfinite(gains.sum(axis=0))
    gain, expected_gain, trial_gain = gains[:, is_valid]
    return PersonalizationGain(ts[is_non_empty][is_valid], gain, expected_gain, trial_gain, trial_start)
