"""Candidates judged: one pass of features and ranker over the lists of all questions that are answered together."""

from dataclasses import dataclass

import numpy as np

from online_models.model import RecommenderModel
from online_models.retrievers.candidates import Candidates
from online_models.retrievers.top_k import top_k
from online_models.state.item_table import UserQueries
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class RankedLists:
    """The lists of n questions, m candidates in all, as they were judged."""

    candidates: Candidates
    features: np.ndarray  # (m, f) float32
    scores: np.ndarray  # (m,) float32
    log_odds: np.ndarray  # (m,) float32, log-odds of being acted on once shown
    top_entries: np.ndarray  # (n, k) int64, entries of each list from the best down, -1 where there are no more

    def get_top_entries(self, i: int) -> np.ndarray:
        """The entries of question i, best first; of equal scores the earlier one."""
        entries: np.ndarray = self.top_entries[
            i, : min(self.top_entries.shape[1], self.candidates.start[i + 1] - self.candidates.start[i])
        ]
        return entries

    def select_explorable(self, channel_bit: np.uint16, top_n: int) -> np.ndarray:
        """The entries of a channel and the best `most` of each list, (a,) int64, ascending."""
        entries = np.flatnonzero(self.candidates.channels & channel_bit)
        top_entries = self.top_entries[:, :top_n]
        return np.union1d(entries, top_entries[top_entries >= 0]) if top_n else entries


@kernel
def _fill_top_entries(start: np.ndarray, scores: np.ndarray, out: np.ndarray) -> None:
    top = np.empty(out.shape[1], np.int64)
    for i in range(out.shape[0]):
        count = top_k(scores[start[i] : start[i + 1]], start[i + 1] - start[i], top)
        for j in range(count):
            out[i, j] = start[i] + top[j]


def rank(
    model: RecommenderModel, user_queries: UserQueries, candidates: Candidates, feedback_weight: float, top_n: int
) -> RankedLists:
    """Judge candidates, and sort the best `most` of each list; `trust` as in `Stack.judge`."""
    features = model.extract_candidate_features(user_queries, candidates.start, candidates.row)
    scores, log_odds = model.score_candidates(features, feedback_weight)
    top_entries = np.full((candidates.start.size - 1, top_n), -1, np.int64)
    _fill_top_entries(candidates.start, scores, top_entries)
    return RankedLists(candidates, features, scores, log_odds, top_entries)
