import numpy as np
import pytest

from online_models.rankers.click_head import ClickHead, ClickHeadSettings


def test_probabilities_are_calibrated() -> None:
    rng, head = np.random.default_rng(0), ClickHead(3)
    x = rng.normal(size=(60_000, 3)).astype(np.float32)
    truth = 1 / (1 + np.exp(-(x @ np.array([1.0, -0.5, 0.0]) - 2)))
    head.learn(x, (rng.random(x.shape[0]) < truth).astype(np.float32))
    predicted = head.predict(x[-20_000:])

    assert abs(predicted.mean() - truth[-20_000:].mean()) < 0.01
    assert np.abs(predicted - truth[-20_000:]).mean() < 0.02


def test_state_of_another_width_is_rejected() -> None:
    with pytest.raises(ValueError, match="over 3 inputs cannot take 5 weights: features or ranker differ"):
        ClickHead(3).restore(ClickHead(5).state())


def test_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rate must be a positive number, got 0"):
        ClickHeadSettings(rate=0)
