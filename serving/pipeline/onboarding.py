"""Choose the items to ask a newcomer about.

An answer is most informative if the item is popular, so that newcomers have an opinion, and stands for items that no
other question stands for (Rashid et al., "Getting to know you", IUI 2002; Golbandi, Koren and Lempel, "On bootstrapping
recommender systems", CIKM 2010). That is the coverage Σ_j p_j max_{i ∈ S} s_ij of the actions: p_j is the share of item
j, and s_ij the similarity of items i and j. The greedy choice has at least 1 - 1/e of the best coverage (Nemhauser,
Wolsey and Fisher, 1978).
"""

import numpy as np

from online_models.state.contribution_caps import VIEWED
from online_models.state.item_table import HORIZONS, TWO_MONTHS, ItemTable
from serving.replica.replica import Replica

MAX_POOL = 128  # most popular items among which the questions are chosen
_UNSEEN_COUNT = 1e-3  # actions of an item without any: categories alone divide a catalog before the first event


def select_questions(
    replica: Replica, mask: np.ndarray, own_rows: np.ndarray, k: int, now: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose up to k item rows of a mask, (n,), with what each adds to the coverage.

    `own_rows`: items of the user, which count as asked; `now`: ms.
    """
    pool = replica.popularity.select(mask.astype(np.bool_), MAX_POOL)
    own_rows = own_rows[:MAX_POOL]
    others = np.concatenate([pool, own_rows])
    similarity = _measure_similarities(replica, others, pool)  # (others, pool)
    share = _count_actions(replica.model.items, pool, now)
    share /= share.sum()
    covered = similarity[pool.size :].max(axis=0, initial=0.0)
    is_open, best_entries, gains = ~np.isin(pool, own_rows), [], []
    for _ in range(min(k, int(is_open.sum()))):
        gain = np.where(is_open, np.maximum(similarity[: pool.size] - covered, 0.0) @ share, -1.0)
        best = int(np.argmax(gain))
        covered, is_open[best] = np.maximum(covered, similarity[best]), False
        best_entries.append(best)
        gains.append(float(gain[best]))
    return pool[best_entries], np.array(gains)


def _measure_similarities(replica: Replica, rows: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Similarity of items to those of a pool, (n, m) float64, 0 to 1; 1 to themselves."""
    model, boards = replica.model, replica.leaderboards
    similarity = [model.measure_similarity(row, pool, boards.measure_similarity(row, pool)) for row in rows.tolist()]
    return np.where(rows[:, None] == pool, 1.0, np.reshape(similarity, (rows.size, pool.size)))


def _count_actions(items: ItemTable, rows: np.ndarray, now: int) -> np.ndarray:
    """Actions on items that decay over two months, (n,) float64."""
    counts = items.counters["counts"][rows, VIEWED:, TWO_MONTHS].sum(axis=1, dtype=np.float64)
    age_s = np.maximum(0, now - items.counters["stamp"][rows]) / 1000
    decayed: np.ndarray = counts * 2.0 ** (-age_s / HORIZONS[TWO_MONTHS]) + _UNSEEN_COUNT
    return decayed
