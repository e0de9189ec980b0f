"""What was taken of slates just now, and how well that was foretold: known long before any window closes."""

from dataclasses import dataclass, field

import numpy as np

from online_models.rankers.listnet import ListNet
from stream.records.batches import ExampleBatch, Kind, flatten_ragged


@dataclass(frozen=True, slots=True)
class PersonalizationGain:
    """Slates that something was taken of just now, one entry each, as they stood before that was learnt.

    Logs of how much likelier the one makes what was taken, of all on the slate, than the other: a slate whose places
    are all as likely says nothing, however badly its click-through is known.
    """

    ts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) when they were asked for, ms
    gain: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the person known, beside nothing known
    expected_gain: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the same, as predictions promise it
    trial_gain: np.ndarray = field(
        default_factory=lambda: np.zeros(0)
    )  # (n,) the past that is tried, beside what counts

    def __len__(self) -> int:
        return int(self.ts.size)


def log_softmax_by_list(scores: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Log of the probability of each entry among its list's, (m,) float64; no list is empty."""
    lengths, begin = np.diff(start), start[:-1]
    s = scores.astype(np.float64)
    s -= np.repeat(np.maximum.reduceat(s, begin), lengths)
    s -= np.repeat(np.log(np.add.reduceat(np.exp(s), begin)), lengths)
    return s


def measure_personalization(
    ranker: ListNet,
    ts: np.ndarray,
    lists: tuple[np.ndarray, np.ndarray, np.ndarray],
    personal: np.ndarray,
    trial_features: tuple[np.ndarray, np.ndarray] | None,
) -> PersonalizationGain:
    """`lists`: features, labels and starts; `personal`: columns that are 0 for somebody of whom nothing is known.

    `compared`: features with the past that counts and with the one that is tried, if there is one.
    """
    x, label, start = lists
    is_non_empty = np.diff(start) > 0
    if not is_non_empty.any():
        return PersonalizationGain()
    ts, start = ts[is_non_empty], np.append(start[:-1][is_non_empty], start[-1])
    label = np.maximum(label, 0)
    clicks = np.add.reduceat(label, start[:-1]).astype(np.float64)
    share = label / np.repeat(np.maximum(clicks, 1e-9), np.diff(start))
    anonymous = x.copy()
    anonymous[:, personal] = 0
    log_probabilities = log_softmax_by_list(ranker.scores(x), start)
    gain = log_probabilities - log_softmax_by_list(ranker.scores(anonymous), start)
    trial_gain = np.zeros(gain.size)
    if trial_features:
        current, trial = (log_softmax_by_list(ranker.scores(features), start) for features in trial_features)
        trial_gain = trial - current
    list_gain, list_expected_gain, list_trial_gain = (
        np.add.reduceat(weight * value, start[:-1])
        for weight, value in ((share, gain), (np.exp(log_probabilities), gain), (share, trial_gain))
    )
    is_valid = (clicks > 0) & np.isfinite(list_gain + list_expected_gain + list_trial_gain)
    return PersonalizationGain(
        ts[is_valid], list_gain[is_valid], list_expected_gain[is_valid], list_trial_gain[is_valid]
    )


@dataclass(frozen=True, slots=True)
class ClickRanks:
    """Answers to slates, one entry each, as they were predicted before they were learnt."""

    row: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) of the batch
    item: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # (n,) that was taken
    rank: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) 1 if it was predicted best, 0 if least

    def __len__(self) -> int:
        return int(self.row.size)


def rank_clicks(batch: ExampleBatch, rows: np.ndarray, probability: np.ndarray) -> ClickRanks:
    """Of the `chosen` rows, lists of which something was taken, with the probability of each of their entries."""
    flat, start = flatten_ragged(batch.lists.start, rows)
    lengths, n = np.diff(start), rows.size
    clicked_items = _find_clicked_items(batch, rows)
    list_index = np.repeat(np.arange(n), lengths)
    rank = np.empty(flat.size, np.int64)
    rank[np.lexsort((probability, list_index))] = np.arange(flat.size) - np.repeat(start[:-1], lengths)
    is_clicked = batch.lists.item[flat] == np.repeat(clicked_items, lengths)
    relative_rank = np.bincount(list_index, rank * is_clicked, n) / np.maximum(lengths - 1, 1)
    is_valid = (lengths > 1) & (np.bincount(list_index, is_clicked, n) == 1)
    return ClickRanks(rows[is_valid], clicked_items[is_valid], relative_rank[is_valid])


def _find_clicked_items(batch: ExampleBatch, rows: np.ndarray) -> np.ndarray:
    """The item that each list was answered with, 0 where the action is not among the rows."""
    action_rows = np.flatnonzero(batch.kind == Kind.action)
    if action_rows.size == 0:
        return np.zeros(rows.size, np.uint64)
    action_rows = action_rows[np.argsort(batch.event[action_rows], kind="stable")]
    nearest = np.minimum(np.searchsorted(batch.event[action_rows], batch.event[rows]), action_rows.size - 1)
    items = batch.lists.item[batch.lists.start[action_rows[nearest]]]
    return np.where(batch.event[action_rows[nearest]] == batch.event[rows], items, np.uint64(0))


@dataclass(frozen=True, slots=True)
class ClosedImpressions:
    """Shown items of which the last step told the outcome, as they were predicted before it was learnt."""

    probability: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (m,)
    label: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (m,)
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (m, f)
