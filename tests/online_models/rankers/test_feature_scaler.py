"""Features are standardized by running moments; constant ones are left out."""

import numpy as np
import pytest

from online_models.protocols import RankerSettings
from online_models.rankers.feature_scaler import FeatureScaler
from online_models.rankers.listnet import ListNet

_DRAWS = np.random.default_rng(0).normal(5.0, 2.0, (4000, 3)).astype(np.float32)


def test_moments_are_those_of_the_rows() -> None:
    scaler = FeatureScaler(3)
    for part in np.split(_DRAWS, 8):
        scaler.update(part)

    assert scaler.mean.tolist() == pytest.approx(_DRAWS.mean(axis=0).tolist(), abs=1e-3)
    assert (1 / scaler.scale).tolist() == pytest.approx(_DRAWS.std(axis=0).tolist(), rel=1e-3)


@pytest.mark.parametrize("constant", [0.0, 1.0, 7.3, -90.0])
def test_column_that_has_been_constant_counts_as_zero(constant: float) -> None:
    scaler, x = FeatureScaler(3), _DRAWS.copy()
    x[:, 1] = constant
    for part in np.split(x, 8):
        scaler.update(part)
    other = x[:1] + 1

    assert ((other - scaler.mean) * scaler.scale)[0, 1] == 0


def test_other_value_of_a_constant_column_does_not_change_scores() -> None:
    rng, ranker = np.random.default_rng(1), ListNet(("a", "b"), RankerSettings())
    for _ in range(50):
        x = rng.normal(size=(200, 2)).astype(np.float32)
        x[:, 1] = 0  # as a position that training never saw
        ranker.learn(x, np.tile([1, 0, 0, 0], 50).astype(np.float32), np.arange(0, 201, 4))
    seen, other = np.array([[0.5, 0.0]], np.float32), np.array([[0.5, 1.0]], np.float32)
    start = np.array([0, 1])

    assert ranker.score(seen, start) == ranker.score(other, start)
