"""What was taken of slates just now, and how well that was foretold: known long before any window closes."""

from dataclasses import dataclass, field

import numpy as np

from online_models.rankers.listnet import ListNet
from stream.records.batches import ExampleBatch, Kind, flat_runs


@dataclass(frozen=True, slots=True)
class Foretold:
    """Slates that something was taken of just now, one entry each, as they stood before that was learnt.

    Logs of how much likelier the one makes what was taken, of all on the slate, than the other: a slate whose places
    are all as likely says nothing, however badly its click-through is known.
    """

    ts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) when they were asked for, ms
    worth: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the person known, beside nothing known
    promised: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the same, as predictions promise it
    tried: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) the past that is tried, beside what counts

    def __len__(self) -> int:
        return int(self.ts.size)


def log_shares(scores: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Log of the probability of each entry among its list's, (m,) float64; no list is empty."""
    lengths, begin = np.diff(start), start[:-1]
    s = scores.astype(np.float64)
    s -= np.repeat(np.maximum.reduceat(s, begin), lengths)
    s -= np.repeat(np.log(np.add.reduceat(np.exp(s), begin)), lengths)
    return s


def foretold(
    net: ListNet,
    ts: np.ndarray,
    lists: tuple[np.ndarray, np.ndarray, np.ndarray],
    personal: np.ndarray,
    compared: tuple[np.ndarray, np.ndarray] | None,
) -> Foretold:
    """`lists`: features, labels and starts; `personal`: columns that are 0 for somebody of whom nothing is known.

    `compared`: features with the past that counts and with the one that is tried, if there is one.
    """
    x, label, start = lists
    solid = np.diff(start) > 0
    if not solid.any():
        return Foretold()
    ts, start = ts[solid], np.append(start[:-1][solid], start[-1])
    label = np.maximum(label, 0)
    taken = np.add.reduceat(label, start[:-1]).astype(np.float64)
    share = label / np.repeat(np.maximum(taken, 1e-9), np.diff(start))
    blank = x.copy()
    blank[:, personal] = 0
    known = log_shares(net.scores(x), start)
    gain = known - log_shares(net.scores(blank), start)
    tried = np.zeros(gain.size)
    if compared:
        one, other = (log_shares(net.scores(features), start) for features in compared)
        tried = other - one
    worth, promised, odds = (
        np.add.reduceat(weight * log, start[:-1])
        for weight, log in ((share, gain), (np.exp(known), gain), (share, tried))
    )
    told = (taken > 0) & np.isfinite(worth + promised + odds)
    return Foretold(ts[told], worth[told], promised[told], odds[told])


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers to slates, one entry each, as they were predicted before they were learnt."""

    row: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) of the batch
    item: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # (n,) that was taken
    place: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) 1 if it was predicted best, 0 if least

    def __len__(self) -> int:
        return int(self.row.size)


def answered(batch: ExampleBatch, chosen: np.ndarray, probability: np.ndarray) -> Answered:
    """Of the `chosen` rows, lists of which something was taken, with the probability of each of their entries."""
    flat, start = flat_runs(batch.lists.start, chosen)
    lengths, n = np.diff(start), chosen.size
    taken = _taken(batch, chosen)
    of_list = np.repeat(np.arange(n), lengths)
    rank = np.empty(flat.size, np.int64)
    rank[np.lexsort((probability, of_list))] = np.arange(flat.size) - np.repeat(start[:-1], lengths)
    hit = batch.lists.item[flat] == np.repeat(taken, lengths)
    place = np.bincount(of_list, rank * hit, n) / np.maximum(lengths - 1, 1)
    solid = (lengths > 1) & (np.bincount(of_list, hit, n) == 1)
    return Answered(chosen[solid], taken[solid], place[solid])


def _taken(batch: ExampleBatch, chosen: np.ndarray) -> np.ndarray:
    """The item that each list was answered with, 0 where the action is not among the rows."""
    acted = np.flatnonzero(batch.kind == Kind.action)
    if acted.size == 0:
        return np.zeros(chosen.size, np.uint64)
    acted = acted[np.argsort(batch.event[acted], kind="stable")]
    at = np.minimum(np.searchsorted(batch.event[acted], batch.event[chosen]), acted.size - 1)
    items = batch.lists.item[batch.lists.start[acted[at]]]
    return np.where(batch.event[acted[at]] == batch.event[chosen], items, np.uint64(0))


@dataclass(frozen=True, slots=True)
class Closed:
    """Shown items of which the last step told the outcome, as they were predicted before it was learnt."""

    probability: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (m,)
    label: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (m,)
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (m, f)
