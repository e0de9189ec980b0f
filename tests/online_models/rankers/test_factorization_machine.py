import numpy as np
import pytest

from online_models.protocols import FeatureRows
from online_models.rankers import FactorizationMachine, FMSettings
from online_models.state.embeddings import EmbeddingSettings


def rows(keys: list[list[int]], numbers: list[list[float]], label: list[float]) -> FeatureRows:
    n = len(label)
    values = np.array(numbers, np.float32)
    return FeatureRows(
        np.array(keys, np.uint64), values, np.array(label, np.float32), np.ones(n, np.float32), np.arange(n + 1)
    )


def logit(score: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(score.astype(np.float64)) - np.log1p(-score.astype(np.float64)))


def test_logit_adds_the_dot_products_of_all_pairs() -> None:
    ranker = FactorizationMachine(2, 2, FMSettings(EmbeddingSettings(dim=3, scale=0.5)))
    batch = rows([[5, 6], [7, 6]], [[0.5, -2.0], [1.0, 0.3]], [1.0, 0.0])
    for _ in range(20):
        ranker.learn(batch)
    state = ranker.state()
    ids, numbers = state["ids.rows.row"], state["dense.numbers"]

    assert len(ids) == 3
    for i, own in enumerate(([0, 1], [2, 1])):
        x = np.concatenate([[1, 1], batch.numbers[i]])
        parts = np.concatenate([ids[own], numbers]) * x[:, None]
        pairs = sum(parts[a, :3] @ parts[b, :3] for a in range(4) for b in range(a))
        assert logit(ranker.predict(batch))[i] == pytest.approx(
            pairs + parts[:, 4].sum() + state["dense.bias"][0], abs=1e-4
        )


def test_updates_follow_the_gradient_of_the_log_loss() -> None:
    settings = FMSettings(EmbeddingSettings(dim=3, scale=0.5), rate=0.1, weight_rate=0.2)
    ranker = FactorizationMachine(2, 1, settings)
    batch = rows([[5, 6]], [[0.7]], [1.0])
    ranker.learn(batch)
    before = {name: array.copy() for name, array in ranker.state().items()}
    ranker.learn(batch)
    after = ranker.state()

    for name in ("ids.rows.row", "dense.numbers"):
        for row, column, square, rate in [(0, 0, 3, 0.1), (0, 1, 3, 0.1), (0, 2, 3, 0.1), (0, 4, 5, 0.2)]:
            moved = float(before[name][row, column]) - float(after[name][row, column])
            gradient = moved * float(after[name][row, square]) ** 0.5 / rate
            assert gradient == pytest.approx(numeric_gradient(settings, before, name, (row, column), batch), abs=2e-3)


def numeric_gradient(
    settings: FMSettings, state: dict[str, np.ndarray], name: str, at: tuple[int, ...], batch: FeatureRows
) -> float:
    """Gradient of the log loss at label 1, by central differences."""
    losses = []
    for sign in (1, -1):
        moved = {key: array.copy() for key, array in state.items()}
        moved[name][at] += sign * 0.02
        ranker = FactorizationMachine(2, 1, settings)
        ranker.restore(moved)
        losses.append(-float(np.log(ranker.predict(batch)[0])))
    return (losses[0] - losses[1]) / 0.04


def test_factors_learn_an_exclusive_or() -> None:
    exclusive_or = rows([[1, 1], [1, 2], [2, 1], [2, 2]], [[]] * 4, [0.0, 1.0, 1.0, 0.0])
    ranker = FactorizationMachine(2, 0)
    for _ in range(600):
        ranker.learn(exclusive_or)

    assert abs(ranker.predict(exclusive_or) - exclusive_or.label).max() < 0.2


@pytest.mark.parametrize("bad", [{"rate": 0.0}, {"weight_rate": float("nan")}, {"clip": -1.0}], ids=str)
def test_settings_name_the_invalid_value(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        FMSettings(**bad)  # type: ignore[arg-type]
