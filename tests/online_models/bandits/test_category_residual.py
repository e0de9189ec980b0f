"""What the linear model puts right of the ranker's word, category by category, and how sure it is of it."""

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


def items_of(categories: np.ndarray = CATEGORIES) -> ItemTable:
    items, n = ItemTable(), categories.size
    rows = items.add_keys(np.arange(1, n + 1, dtype=np.uint64))
    told = np.zeros((n, 4), np.uint64)
    told[:, 0] = categories
    items.set_attributes(rows, told, np.full(n, NO_TIME), np.full(n, 1.0, np.float32))
    return items


def shown(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item rows of the first three categories, their features, and what the ranker predicts."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.flatnonzero(CATEGORIES != 100), n).astype(np.int32)
    return rows, rng.normal(0, 0.5, (n, len(NAMES))).astype(np.float32), np.full(n, RATE, np.float32)


def clicked(rows: np.ndarray, rates: dict[int, float], seed: int = 0) -> np.ndarray:
    rate = np.array([rates[int(category)] for category in CATEGORIES[rows]])
    return (np.random.default_rng(seed).random(rows.size) < rate).astype(np.float32)


def taught(n: int, rates: dict[int, float]) -> CategoryResidualBandit:
    bandit = CategoryResidualBandit(items_of(), NAMES)
    learn(bandit, n, rates)
    return bandit


def learn(bandit: CategoryResidualBandit, n: int, rates: dict[int, float], seed: int = 0) -> None:
    rows, features, chance = shown(n, seed)
    bandit.learn(rows, features, chance, clicked(rows, rates, seed), NOW + 1_000 * np.arange(n))


def judged(bandit: CategoryResidualBandit, rows: list[int], chance: float = RATE) -> np.ndarray:
    """Means and spreads of items that are all in the same context."""
    n = len(rows)
    told = bandit.posterior(np.array(rows, np.int32), np.zeros((n, len(NAMES)), np.float32), np.full(n, chance), RATE)
    return np.array(told)


def bits(state: State) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.items()}


FAIR = dict.fromkeys((101, 102, 103), RATE)
UNFAIR = {101: 0.3, 102: RATE, 103: 0.0}


def test_what_nobody_tried_is_thought_of_as_the_ranker_does() -> None:
    means, spreads = judged(CategoryResidualBandit(items_of(), NAMES), [0, 1, 2], chance=0.07)

    assert means == pytest.approx([0.07] * 3)
    assert spreads[0] == spreads[1] > 0.01


def test_a_category_that_earns_more_or_less_than_was_predicted_is_judged_so() -> None:
    more, fair, less = judged(taught(3_000, UNFAIR), [0, 1, 2])[0]

    assert more > fair + 0.05 > fair > less + 0.05 > 0.04


def test_an_item_that_nobody_was_shown_is_judged_by_its_category() -> None:
    bandit = taught(3_000, UNFAIR)
    new = items_of(np.append(CATEGORIES, np.array([101], np.uint64)))
    followed = CategoryResidualBandit(new, NAMES)
    followed.restore(bandit.state())

    assert judged(followed, [40])[0] == judged(bandit, [0])[0]


def test_a_category_that_is_unknown_is_judged_by_what_all_share() -> None:
    bandit = taught(6_000, dict.fromkeys((101, 102, 103), 0.02))
    means, spreads = judged(bandit, [0, 3])  # of row 3 the category was never shown

    assert means[1] < 0.8 * RATE
    assert spreads[1] > spreads[0]
    assert spreads[1] < judged(CategoryResidualBandit(items_of(), NAMES), [3])[1][0]


def test_it_is_the_surer_the_more_was_shown() -> None:
    spreads = [judged(taught(n, FAIR), [0])[1][0] for n in (0, 300, 3_000)]

    assert spreads[0] > 1.2 * spreads[1] > 1.2 * spreads[2]


def test_it_is_ridge_regression_of_what_the_ranker_gets_wrong() -> None:
    rows, features, chance = shown(400)
    bandit, label = CategoryResidualBandit(items_of(), NAMES), clicked(rows, UNFAIR)
    bandit.learn(rows, features, chance, label, np.full(rows.size, NOW))
    own, shared = np.ones((rows.size, 2)), np.ones((rows.size, 8))
    own[:, 1] = shared[:, 1] = np.clip(features[:, 0] / 0.5, -2, 2)
    shared[:, 2] = chance / 0.25
    for at, (column, scale) in enumerate(((1, 1.0), (2, 4.0), (3, 2.0), (4, 8.0), (5, 1.0))):
        shared[:, 3 + at] = np.clip(features[:, column] / scale, -2, 2)
    wide = np.zeros((rows.size, 3 * 2 + 8))
    for i, category in enumerate(CATEGORIES[rows].tolist()):
        place = 2 * (int(category) - 101)
        wide[i, place : place + 2], wide[i, 6:] = own[i], shared[i]
    faded = 2.0 ** ((NOW - int(bandit.state()["stamp"][0])) / 1000 / (7 * 86_400))
    precision = 300 * np.eye(14) + faded * wide.T @ wide
    weights = np.linalg.solve(precision, faded * wide.T @ (label - chance))

    told = bandit.posterior(rows, features, chance, RATE)

    assert told.means == pytest.approx(np.clip(chance + wide @ weights, 0, 1), abs=1e-6)
    variance = np.einsum("ij,ij->i", wide, np.linalg.solve(precision, wide.T).T)
    assert told.stds == pytest.approx(np.sqrt(RATE * (1 - RATE) * variance))


def test_judging_leaves_the_state_alone() -> None:
    bandit = taught(500, UNFAIR)
    bandit.changes()
    before = bits(bandit.state())
    judged(bandit, [0, 1, 2, 3, -1])

    assert bits(bandit.state()) == before
    assert bandit.changes()["rows"].size == 0


def test_a_restored_one_goes_on_with_the_same_bits() -> None:
    bandit, restored = taught(500, UNFAIR), CategoryResidualBandit(items_of(), NAMES)
    restored.restore({name: array.copy() for name, array in bandit.state().items()})
    for each in (bandit, restored):
        learn(each, 500, FAIR, seed=1)

    assert bits(restored.state()) == bits(bandit.state())


def test_a_replica_judges_with_the_same_bits_without_what_only_learning_needs() -> None:
    bandit, replica = taught(500, UNFAIR), CategoryResidualBandit(items_of(), NAMES)
    for seed in range(3):
        changes = bandit.changes()
        replica.apply(changes)
        assert judged(replica, [0, 1, 2, 3]).tobytes() == judged(bandit, [0, 1, 2, 3]).tobytes()
        assert not {"sums", "monitor"} & changes.keys()
        learn(bandit, 300, FAIR, seed)


def test_a_state_without_a_bandit_is_one_that_has_learnt_nothing() -> None:
    bandit = taught(500, UNFAIR)
    bandit.restore({})
    bandit.apply({})

    assert bits(bandit.state()) == bits(CategoryResidualBandit(items_of(), NAMES).state())


def test_categories_beyond_the_most_share_an_arm() -> None:
    many = np.arange(1_000, 4_000, dtype=np.uint64)
    bandit, n = CategoryResidualBandit(items_of(many), NAMES), many.size
    rows, features = np.arange(n, dtype=np.int32), np.zeros((n, len(NAMES)), np.float32)
    for start in range(0, n, 1_000):
        part = slice(start, start + 1_000)
        bandit.learn(rows[part], features[part], np.full(1_000, RATE), np.ones(1_000, np.float32), np.full(1_000, NOW))

    assert bandit.state()["keys"].size == 2_000
    assert judged(bandit, [0])[0] > judged(bandit, [n - 1])[0]  # of the latter nothing was told apart


@pytest.mark.parametrize("wild", [np.nan, np.inf, -1e30, 3e38])
def test_what_is_no_number_teaches_nothing_and_is_judged_as_a_number(wild: float) -> None:
    bandit = taught(500, UNFAIR)
    rows, features, chance = shown(50)
    label = np.full(rows.size, wild, np.float32)
    features[::2] = wild
    before = judged(bandit, [0, 1, 2])
    bandit.learn(rows, features, chance, label, np.full(rows.size, NOW))
    told = bandit.posterior(rows, features, chance.astype(float), RATE)

    assert judged(bandit, [0, 1, 2]).tolist() == before.tolist()
    assert np.isfinite(told.means).all()
    assert np.isfinite(told.stds).all()
