"""Rules that change click probabilities before the ranking is sorted."""

from collections.abc import Sequence

import numpy as np

from serving.replica.replica import Replica
from serving.rules.language import Boost

_MAX_PROBABILITY = 1 - 1e-6


def find_factors(replica: Replica, boosts: Sequence[Boost], rows: np.ndarray) -> np.ndarray:
    """Product of the factors of all boosts whose filters an item passes, (n,) float64."""
    factors = np.ones(rows.size)
    for boost in boosts:
        factors[replica.find_passing(boost.filters, rows)] *= boost.factor
    return factors


def boost_scores(scores: np.ndarray, log_odds: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Scores, (n,) float32, moved as the log odds are when the probabilities are multiplied.

    >>> boost_scores(np.zeros(2, np.float32), np.log([1.0, 0.25]), np.array([1.5, 1.0])).round(4).tolist()
    [1.0986, 0.0]
    """
    odds = np.exp(np.minimum(log_odds.astype(float), 30.0))
    probabilities = np.minimum(factors * odds / (1 + odds), _MAX_PROBABILITY)
    moved = np.log(probabilities / (1 - probabilities)) - np.log(odds)
    return np.where(factors == 1, scores, scores + moved).astype(np.float32)
