"""Chi-square test that outcomes occur as often as their probabilities say."""

import math

import numpy as np

_Z = 4.753  # quantile of the normal distribution that is exceeded once in a million times


def assert_frequencies_match(outcomes: np.ndarray, probabilities: np.ndarray, least_outcomes: int) -> None:
    """Compare n drawn outcomes with their logged probabilities.

    A true hypothesis fails once in a million times. Outcomes that are expected less than ten times are left out;
    `least_outcomes` must remain.
    """
    _, first, counts = np.unique(outcomes, return_index=True, return_counts=True)
    expected = probabilities[first] * outcomes.size
    is_frequent = expected >= 10
    chi_square = ((counts - expected)[is_frequent] ** 2 / expected[is_frequent]).sum()

    assert is_frequent.sum() >= least_outcomes
    assert chi_square < _chi_square_limit(int(is_frequent.sum()) - 1)


def _chi_square_limit(degrees_of_freedom: int) -> float:
    """Quantile of the chi-square distribution (Wilson and Hilferty 1931)."""
    variance = 2 / (9 * degrees_of_freedom)
    return degrees_of_freedom * (1 - variance + _Z * math.sqrt(variance)) ** 3
