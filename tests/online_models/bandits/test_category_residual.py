"""The learner's bandit corrects the ranker by category, with a known uncertainty."""

import numpy as np
import pytest

from online_models.bandits.category_residual import CategoryResidualBandit
from online_models.state.item_table import NO_TIME, ItemTable
from online_models.state.tables import State

NAMES = ("category_share", "category_latest", "category_shown", "category_rate", "age", "two_tower")
KEYS = np.arange(1, 41, dtype=np.uint64)
CATEGORIES = 100 + KEYS % 4  # of the items in rows 0, 1, …: 101, 102, 103, 100, 101, …
NOW = 1_767_225_600_000
RATE = 0.1
EQUAL_RATES = dict.fromkeys((101, 102, 103), RATE)
DIFFERENT_RATES = {101: 0.3, 102: RATE, 103: 0.0}


def make_items(categories: np.ndarray = CATEGORIES) -> ItemTable:
    items, n = ItemTable(), categories.size
    rows = items.add_keys(np.arange(1, n + 1, dtype=np.uint64))
    item_categories = np.zeros((n, 4), np.uint64)
    item_categories[:, 0] = categories
    items.set_attributes(rows, item_categories, np.full(n, NO_TIME), np.full(n, 1.0, np.float32))
    return items


def make_impressions(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item rows of the first three categories, their features, and the ranker's predictions."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.flatnonzero(CATEGORIES != 100), n).astype(np.int32)
    return rows, rng.normal(0, 0.5, (n, len(NAMES))).astype(np.float32), np.full(n, RATE, np.float32)


def draw_clicks(rows: np.ndarray, rates: dict[int, float], seed: int = 0) -> np.ndarray:
    rate = np.array([rates[int(category)] for category in CATEGORIES[rows]])
    return (np.random.default_rng(seed).random(rows.size) < rate).astype(np.float32)


def make_trained(n: int, rates: dict[int, float]) -> CategoryResidualBandit:
    bandit = CategoryResidualBandit(make_items(), NAMES)
    train(bandit, n, rates)
    return bandit


def train(bandit: CategoryResidualBandit, n: int, rates: dict[int, float], seed: int = 0) -> None:
    rows, features, predictions = make_impressions(n, seed)
    bandit.learn(rows, features, predictions, draw_clicks(rows, rates, seed), NOW + 1_000 * np.arange(n))


def predict(bandit: CategoryResidualBandit, rows: list[int], prediction: float = RATE) -> np.ndarray:
    """Means and standard deviations of items in one context, (2, n)."""
    n = len(rows)
    features, predictions = np.zeros((n, len(NAMES)), np.float32), np.full(n, prediction)
    return np.array(bandit.posterior(np.array(rows, np.int32), features, predictions, RATE))


def to_bytes(state: State) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.items()}


def test_untrained_bandit_agrees_with_the_ranker() -> None:
    means, stds = predict(CategoryResidualBandit(make_items(), NAMES), [0, 1, 2], prediction=0.07)

    assert means == pytest.approx([0.07] * 3)
    assert stds[0] == stds[1] > 0.01


def test_prediction_follows_the_clicks_of_the_category() -> None:
    high, unchanged, low = predict(make_trained(3_000, DIFFERENT_RATES), [0, 1, 2])[0]

    assert high > unchanged + 0.05 > unchanged > low + 0.05 > 0.04


def test_new_item_gets_the_correction_of_its_category() -> None:
    bandit = make_trained(3_000, DIFFERENT_RATES)
    more_items = make_items(np.append(CATEGORIES, np.array([101], np.uint64)))
    restored = CategoryResidualBandit(more_items, NAMES)
    restored.restore(bandit.state())

    assert predict(restored, [40])[0] == predict(bandit, [0])[0]


def test_unknown_category_gets_the_shared_correction() -> None:
    bandit = make_trained(6_000, dict.fromkeys((101, 102, 103), 0.02))
    means, stds = predict(bandit, [0, 3])  # the category of row 3 was never shown

    assert means[1] < 0.8 * RATE
    assert stds[1] > stds[0]
    assert stds[1] < predict(CategoryResidualBandit(make_items(), NAMES), [3])[1][0]


def test_uncertainty_shrinks_with_impressions() -> None:
    stds = [predict(make_trained(n, EQUAL_RATES), [0])[1][0] for n in (0, 300, 3_000)]

    assert stds[0] > 1.2 * stds[1] > 1.2 * stds[2]


def test_posterior_is_ridge_regression_of_the_residual() -> None:
    rows, features, predictions = make_impressions(400)
    bandit, label = CategoryResidualBandit(make_items(), NAMES), draw_clicks(rows, DIFFERENT_RATES)
    bandit.learn(rows, features, predictions, label, np.full(rows.size, NOW))
    own, shared = np.ones((rows.size, 2)), np.ones((rows.size, 8))
    own[:, 1] = shared[:, 1] = np.clip(features[:, 0] / 0.5, -2, 2)
    shared[:, 2] = predictions / 0.25
    for i, (column, scale) in enumerate(((1, 1.0), (2, 4.0), (3, 2.0), (4, 8.0), (5, 1.0))):
        shared[:, 3 + i] = np.clip(features[:, column] / scale, -2, 2)
    design = np.zeros((rows.size, 3 * 2 + 8))
    for i, category in enumerate(CATEGORIES[rows].tolist()):
        block = 2 * (int(category) - 101)
        design[i, block : block + 2], design[i, 6:] = own[i], shared[i]
    discount = 2.0 ** ((NOW - int(bandit.state()["stamp"][0])) / 1000 / (7 * 86_400))
    precision = 300 * np.eye(14) + discount * design.T @ design
    weights = np.linalg.solve(precision, discount * design.T @ (label - predictions))
    variance = np.einsum("ij,ij->i", design, np.linalg.solve(precision, design.T).T)

    posterior = bandit.posterior(rows, features, predictions, RATE)

    assert posterior.means == pytest.approx(np.clip(predictions + design @ weights, 0, 1), abs=1e-6)
    assert posterior.stds == pytest.approx(np.sqrt(RATE * (1 - RATE) * variance))


def test_prediction_leaves_the_state_unchanged() -> None:
    bandit = make_trained(500, DIFFERENT_RATES)
    bandit.changes()
    before = to_bytes(bandit.state())
    predict(bandit, [0, 1, 2, 3, -1])

    assert to_bytes(bandit.state()) == before
    assert bandit.changes()["rows"].size == 0


def test_restored_bandit_continues_with_the_same_bits() -> None:
    bandit, restored = make_trained(500, DIFFERENT_RATES), make_trained(200, EQUAL_RATES)
    restored.restore({name: array.copy() for name, array in bandit.state().items()})
    for learner in (bandit, restored):
        train(learner, 500, EQUAL_RATES, seed=1)

    assert to_bytes(restored.state()) == to_bytes(bandit.state())


def test_replica_predicts_the_same_bits_without_training_state() -> None:
    bandit, replica = make_trained(500, DIFFERENT_RATES), CategoryResidualBandit(make_items(), NAMES)
    for seed in range(3):
        changes = bandit.changes()
        replica.apply(changes)
        assert predict(replica, [0, 1, 2, 3]).tobytes() == predict(bandit, [0, 1, 2, 3]).tobytes()
        assert not {"sums", "monitor"} & changes.keys()
        train(bandit, 300, EQUAL_RATES, seed)


def test_categories_beyond_the_limit_share_an_arm() -> None:
    categories = np.arange(1_000, 4_000, dtype=np.uint64)
    bandit, n = CategoryResidualBandit(make_items(categories), NAMES), categories.size
    rows, features = np.arange(n, dtype=np.int32), np.zeros((n, len(NAMES)), np.float32)
    for start in range(0, n, 1_000):
        part = slice(start, start + 1_000)
        bandit.learn(rows[part], features[part], np.full(1_000, RATE), np.ones(1_000, np.float32), np.full(1_000, NOW))

    assert bandit.state()["keys"].size == 2_000
    assert predict(bandit, [0])[0] > predict(bandit, [n - 1])[0]  # the latter has no arm of its own


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30, 3e38])
def test_invalid_numbers_train_nothing_and_predict_finite(value: float) -> None:
    bandit = make_trained(500, DIFFERENT_RATES)
    rows, features, predictions = make_impressions(50)
    label = np.full(rows.size, value, np.float32)
    features[::2] = value
    before = predict(bandit, [0, 1, 2])
    bandit.learn(rows, features, predictions, label, np.full(rows.size, NOW))
    posterior = bandit.posterior(rows, features, predictions.astype(float), RATE)

    assert predict(bandit, [0, 1, 2]).tolist() == before.tolist()
    assert np.isfinite(posterior.means).all()
    assert np.isfinite(posterior.stds).all()
