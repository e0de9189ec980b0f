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


@pytest.mark.parametrize("age", [0, 300_000])
def test_head_of_any_age_follows_a_change_of_the_click_rate(age: int) -> None:
    rng, head = np.random.default_rng(0), ClickHead(20)

    def draw(n: int, log_odds: float) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(n, 20)).astype(np.float32)
        truth = 1 / (1 + np.exp(-(0.3 * x.sum(axis=1) + log_odds)))
        return x, (rng.random(n) < truth).astype(np.float32)

    head.learn(*draw(age + 50_000, -3.0))
    head.learn(*draw(20_000, -2.0))
    x, label = draw(100_000, -2.0)

    assert head.predict(x).mean() == pytest.approx(label.mean(), rel=0.1)


def test_state_of_another_width_is_rejected() -> None:
    with pytest.raises(ValueError, match="over 3 inputs cannot take 5 weights: features or ranker differ"):
        ClickHead(3).restore(ClickHead(5).state())


def test_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rate must be a positive number, got 0"):
        ClickHeadSettings(rate=0)


@pytest.mark.parametrize("name", ["memory", "bias_memory"])
def test_memory_is_at_least_one_item(name: str) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        ClickHeadSettings(**{name: 0.5})
