"""Rules that change click probabilities before the ranking is sorted."""

from collections.abc import Sequence

import numpy as np

from online_models.state.item_table import NO_TIME
from serving.replica.replica import Replica
from serving.rules.language import Boost, Fatigue, Freshness

_MAX_PROBABILITY = 1 - 1e-6


def find_factors(replica: Replica, boosts: Sequence[Boost], rows: np.ndarray) -> np.ndarray:
    """Product of the factors of all boosts whose filters an item passes, (n,) float64."""
    factors = np.ones(rows.size)
    for boost in boosts:
        factors[replica.find_passing(boost.filters, rows)] *= boost.factor
    return factors


def find_freshness(created: np.ndarray, freshness: Freshness, ts: int) -> np.ndarray:
    """Factors, (n,) float64, by creation time, ms, at event time `ts`; 1 if it is unknown.

    >>> find_freshness(np.array([1000, 0, NO_TIME]), Freshness(factor=3, half_life=1), ts=1000).tolist()
    [3.0, 2.0, 1.0]
    """
    age_s = np.maximum(ts - created.astype(float), 0) / 1000
    return np.where(created > NO_TIME, 1 + (freshness.factor - 1) * 0.5 ** (age_s / freshness.half_life), 1.0)


def find_fatigue(keys: np.ndarray, shown: np.ndarray, fatigue: Fatigue) -> np.ndarray:
    """Factors, (n,) float64, of items by how often `shown`, (s,) uint64 keys, has them.

    >>> shown = np.array([7, 7, 7, 8], np.uint64)
    >>> find_fatigue(np.array([7, 8, 9], np.uint64), shown, Fatigue(shown=1, factor=0.5)).tolist()
    [0.25, 1.0, 1.0]
    """
    counts = (keys[:, None] == shown[None, :]).sum(axis=1)
    factors: np.ndarray = np.power(fatigue.factor, np.maximum(counts - fatigue.shown, 0).astype(float))
    return factors


def boost_scores(scores: np.ndarray, log_odds: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Scores, (n,) float32, moved as the log odds are when the probabilities are multiplied.

    >>> boost_scores(np.zeros(2, np.float32), np.log([1.0, 0.25]), np.array([1.5, 1.0])).astype(str).tolist()
    ['1.0986123', '0.0']
    """
    odds = np.exp(np.minimum(log_odds.astype(float), 30.0))
    probabilities = np.minimum(factors * odds / (1 + odds), _MAX_PROBABILITY)
    moved = np.log(probabilities / (1 - probabilities)) - np.log(odds)
    return np.where(factors == 1, scores, scores + moved).astype(np.float32)
