import numpy as np
import pytest

from online_models.checks.pointwise_models import generate_batches
from online_models.protocols import FeatureRows
from online_models.rankers import DeepFM, DeepFMSettings
from online_models.rankers.deepfm import Layers, backward, forward, split_layers
from online_models.state.embeddings import EmbeddingSettings


def test_network_gradients_match_finite_differences() -> None:
    rng = np.random.default_rng(1)
    widths = (5, 4, 3, 1)
    flat = rng.normal(0, 1, 5 * 4 + 4 + 4 * 3 + 3 + 3 + 1)
    inputs, label = rng.normal(0, 1, (7, 5)), rng.integers(0, 2, 7).astype(float)

    def loss(flat: np.ndarray, inputs: np.ndarray) -> float:
        logits = forward(split_layers(flat, widths), inputs)[-1][:, 0]
        return float(np.sum(np.logaddexp(0, logits) - label * logits))

    layers: Layers = split_layers(flat, widths)
    values = forward(layers, inputs)
    layer_gradients = np.zeros_like(flat)
    input_gradients = backward(
        layers, values, 1 / (1 + np.exp(-values[-1][:, 0])) - label, split_layers(layer_gradients, widths)
    )

    for i in range(flat.size):
        step = np.zeros_like(flat)
        step[i] = 1e-6
        assert layer_gradients[i] == pytest.approx(
            (loss(flat + step, inputs) - loss(flat - step, inputs)) / 2e-6, abs=1e-6
        )
    for at in np.ndindex(*inputs.shape):
        step = np.zeros_like(inputs)
        step[at] = 1e-6
        assert input_gradients[at] == pytest.approx(
            (loss(flat, inputs + step) - loss(flat, inputs - step)) / 2e-6, abs=1e-6
        )


def test_id_updates_follow_the_gradient_of_the_log_loss() -> None:
    settings = DeepFMSettings(EmbeddingSettings(dim=3, scale=0.5), hidden=(8, 4), rate=0.1, weight_rate=0.2)
    ranker = DeepFM(2, 1, settings)
    ones = np.ones(1, np.float32)
    batch = FeatureRows(np.array([[5, 6]], np.uint64), 0.7 * ones[:, None], ones, ones, np.arange(2))
    for _ in range(20):
        ranker.learn(batch)
    before = {name: array.copy() for name, array in ranker.state().items()}
    ranker.learn(batch)
    after = ranker.state()

    name = "ids.rows.row"
    for row in range(2):
        for column, square, rate in [(0, 3, 0.1), (1, 3, 0.1), (2, 3, 0.1), (4, 5, 0.2)]:
            moved = float(before[name][row, column]) - float(after[name][row, column])
            gradient = moved * float(after[name][row, square]) ** 0.5 / rate
            assert gradient == pytest.approx(numeric_gradient(settings, before, name, (row, column), batch), abs=2e-3)


def numeric_gradient(
    settings: DeepFMSettings, state: dict[str, np.ndarray], name: str, at: tuple[int, ...], batch: FeatureRows
) -> float:
    """Gradient of the log loss at label 1, by central differences."""
    losses = []
    for sign in (1, -1):
        moved = {key: array.copy() for key, array in state.items()}
        moved[name][at] += sign * 0.01
        ranker = DeepFM(2, 1, settings)
        ranker.restore(moved)
        losses.append(-float(np.log(ranker.predict(batch)[0])))
    return (losses[0] - losses[1]) / 0.02


def test_splitting_between_steps_changes_nothing() -> None:
    whole, split = (DeepFM(4, 2, DeepFMSettings(hidden=(8,), batch=100)) for _ in range(2))
    for batch in generate_batches(4, 2):
        whole.learn(batch)
        for first in range(0, 300, 100):
            part = slice(first, first + 100)
            arrays = batch.keys[part], batch.numbers[part], batch.label[part], batch.weight[part]
            split.learn(FeatureRows(*arrays, np.arange(101), batch.now))

    for batch in generate_batches(4, 2):
        assert whole.predict(batch).tobytes() == split.predict(batch).tobytes()


def test_extreme_weight_moves_the_network_little() -> None:
    ranker = DeepFM(4, 2, DeepFMSettings(hidden=(8,), clip=0.5))
    batches = generate_batches(4, 2)
    for batch in batches:
        ranker.learn(batch)
    before = ranker.predict(batches[0])
    batches[1].weight[7] = 1e30
    ranker.learn(batches[1])

    assert abs(ranker.predict(batches[0]) - before).max() < 0.2


@pytest.mark.parametrize(
    "bad",
    [{"hidden": ()}, {"hidden": (0,)}, {"batch": 0}, {"rate": 0.0}, {"dense_rate": float("inf")}, {"clip": 0.0}],
    ids=str,
)
def test_settings_name_the_invalid_value(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DeepFMSettings(**bad)  # type: ignore[arg-type]
