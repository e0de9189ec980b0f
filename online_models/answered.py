"""What was taken of slates just now, and how well that was foretold: known long before any window closes."""

from dataclasses import dataclass, field

import numpy as np

from stream.batches import ExampleBatch, Kind, flat_runs


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
