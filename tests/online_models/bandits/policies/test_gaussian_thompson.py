import math

import numpy as np
import pytest

from online_models.bandits import GaussianThompson, Policy, Posterior
from online_models.checks.policies import POSTERIORS

ARMS = {
    "equal": (np.full(60, 0.1), np.full(60, 0.05)),
    "certain and uncertain": (np.linspace(0.0, 0.3, 40), np.geomspace(1e-3, 0.5, 40)),
    "one certain": (np.array([0.5, 0.4, 0.45, 0.1]), np.array([1e-12, 0.2, 0.01, 0.4])),
    "far apart": (np.linspace(0, 1e6, 5), np.full(5, 1e-12)),
}


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_probability_is_the_frequency_of_the_greatest_draw(scale: float) -> None:
    posterior, rng = POSTERIORS["certain and uncertain"], np.random.default_rng(1)
    draws = rng.normal(posterior.means, scale * posterior.stds, (200_000, 4))
    frequencies = np.bincount(draws.argmax(axis=1), minlength=4) / 200_000

    assert Policy(GaussianThompson(scale)).probabilities(posterior) == pytest.approx(frequencies, abs=0.01)


@pytest.mark.parametrize(("means", "stds"), ARMS.values(), ids=ARMS.keys())
def test_probability_is_the_integral_over_the_greatest_draw(means: np.ndarray, stds: np.ndarray) -> None:
    stds_floor = np.maximum(stds, 1e-9)[:, None]
    near_means = (means[:, None] + stds_floor * np.linspace(-8, 8, 801)).ravel()
    edges = np.union1d(near_means, np.linspace(near_means.min(), near_means.max(), 5_000))
    below = 0.5 * np.vectorize(math.erfc)((means[:, None] - edges) / (np.sqrt(2) * stds_floor))
    log_below = np.log(np.maximum(below, 1e-300))
    others = np.exp(log_below.sum(axis=0) - log_below)
    expected = (np.diff(below, axis=1) * (others[:, 1:] + others[:, :-1]) / 2).sum(axis=1)

    assert GaussianThompson().probabilities(Posterior(means, stds)) == pytest.approx(expected, abs=2e-4)
