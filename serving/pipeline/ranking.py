"""Candidates judged: one pass of features and ranker over the lists of all questions that are answered together."""

from dataclasses import dataclass

import numpy as np

from online_models.model import Stack
from online_models.retrievers.candidates import Found
from online_models.retrievers.top_k import best
from online_models.state.item_table import People
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class Ranked:
    """The lists of n questions, m candidates in all, as they were judged."""

    found: Found
    features: np.ndarray  # (m, f) float32
    scores: np.ndarray  # (m,) float32
    odds: np.ndarray  # (m,) float32, log-odds of being acted on once shown
    best: np.ndarray  # (n, k) int64, entries of each list from the best down, -1 where there are no more

    def best_of(self, i: int) -> np.ndarray:
        """The entries of question i, best first; of equal scores the earlier one."""
        entries: np.ndarray = self.best[i, : min(self.best.shape[1], self.found.start[i + 1] - self.found.start[i])]
        return entries

    def explored_over(self, bit: np.uint16, most: int) -> np.ndarray:
        """The entries of a channel and the best `most` of each list, (a,) int64, ascending."""
        entries = np.flatnonzero(self.found.channels & bit)
        best = self.best[:, :most]
        return np.union1d(entries, best[best >= 0]) if most else entries


@kernel
def _best(start: np.ndarray, scores: np.ndarray, out: np.ndarray) -> None:
    chosen = np.empty(out.shape[1], np.int64)
    for i in range(out.shape[0]):
        count = best(scores[start[i] : start[i + 1]], start[i + 1] - start[i], chosen)
        for j in range(count):
            out[i, j] = start[i] + chosen[j]


def ranked(stack: Stack, people: People, found: Found, trust: float, most: int) -> Ranked:
    """Judge candidates, and sort the best `most` of each list; `trust` as in `Stack.judge`."""
    features = stack.features_of(people, found.start, found.row)
    scores, odds = stack.judge(features, trust)
    entries = np.full((found.start.size - 1, most), -1, np.int64)
    _best(found.start, scores, entries)
    return Ranked(found, features, scores, odds, entries)
