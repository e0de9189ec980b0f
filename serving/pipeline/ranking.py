"""Score the candidates of a batch of requests in one pass of features and ranker."""

from dataclasses import dataclass

import numpy as np

from online_models.model import RecommenderModel
from online_models.retrievers.candidates import Candidates
from online_models.retrievers.top_k import top_k
from online_models.state.item_table import UserQueries
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Scored lists of n requests with m candidates in total; an entry is an index into the m."""

    candidates: Candidates
    features: np.ndarray  # (m, f) float32
    scores: np.ndarray  # (m,) float32
    log_odds: np.ndarray  # (m,) float32, log odds of an action once shown
    top_entries: np.ndarray  # (n, k) int64, entries of each list by descending score, -1 beyond its end

    def get_top_entries(self, i: int) -> np.ndarray:
        """Entries of request i by descending score; ties go to the earlier entry."""
        length = self.candidates.start[i + 1] - self.candidates.start[i]
        entries: np.ndarray = self.top_entries[i, : min(self.top_entries.shape[1], length)]
        return entries

    def select_explorable(self, channel_bit: np.uint16, top_n: int) -> np.ndarray:
        """Entries of a channel and the best `top_n` of each list, (a,) int64, ascending."""
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
    """Score all candidates and sort the best `top_n` of each list.

    `feedback_weight`: see `RecommenderModel.score_candidates`.
    """
    features = model.extract_candidate_features(user_queries, candidates.start, candidates.row)
    scores, log_odds = model.score_candidates(features, candidates.start, feedback_weight)
    top_entries = np.full((candidates.start.size - 1, top_n), -1, np.int64)
    _fill_top_entries(candidates.start, scores, top_entries)
    return RankedLists(candidates, features, scores, log_odds, top_entries)
