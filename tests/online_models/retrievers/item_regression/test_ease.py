"""EASE against its regression, and the bounds of its items and fits."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.retrievers.item_regression.ease import EaseRetriever, EaseSettings, fit_weights
from stream.clock import DAY_MS
from tests.support.batches import START
from tests.support.retriever_inputs import make_actions, make_items, make_users

SETTINGS = EaseSettings(items=8, ridge=1.0, min_interval=8, max_interval=8, neighbors=4)


def train(settings: EaseSettings, histories: list[list[int]], rows: list[int], ts: int = START) -> EaseRetriever:
    ease = EaseRetriever(make_items(), settings)
    ease.learn(make_actions(ease._items, histories, rows, [ts] * len(rows)))
    return ease


def test_weights_are_those_of_a_ridge_regression_on_the_other_items() -> None:
    x = (np.random.default_rng(0).random((40, 6)) < 0.4).astype(np.float32)
    pairs, ridge = x.T @ x, 3.0
    expected = np.zeros((6, 6))
    for j in range(6):
        others = np.arange(6) != j
        gram = pairs[np.ix_(others, others)] + ridge * np.eye(5)
        expected[others, j] = np.linalg.solve(gram, pairs[others, j])

    assert fit_weights(pairs, ridge) == pytest.approx(expected, abs=1e-5)


def test_pairs_count_once_per_history() -> None:
    ease = train(SETTINGS, [[], [0], [0, 1], [0, 1]], [0, 1, 0, 2])

    assert ease.state()["pairs"][:3, :3].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


def test_repeats_in_a_history_count_as_one_item() -> None:
    ease = train(SETTINGS, [[], [0], [0, 0, 0]], [0, 0, 1])

    assert ease.state()["pairs"][:2, :2].tolist() == [[1, 1], [1, 1]]


def test_counts_that_are_not_positive_definite_give_finite_weights() -> None:
    pairs = np.full((6, 6), 50.0, np.float32)
    np.fill_diagonal(pairs, 1.0)

    assert np.abs(fit_weights(pairs, 3.0)).max() < 2.0


def test_weights_are_fit_after_an_interval_of_actions() -> None:
    ease = train(SETTINGS, [[], [0]] * 3, [0, 1] * 3)
    users = make_users(ease._items, [[0]])
    before = ease.retrieve(users, 1).tolist()
    ease.learn(make_actions(ease._items, [[], [0]], [0, 1], [START, START]))

    assert before == [[-1]]
    assert ease.retrieve(users, 1).tolist() == [[1]]


def test_frequent_items_keep_their_place_in_a_large_catalog() -> None:
    settings = replace(SETTINGS, evicted_ratio=0.5)
    ease = train(settings, [[], [0]] * 8, [0, 1] * 8)
    for item in range(2, 40):
        ease.learn(make_actions(ease._items, [[]], [item], [START]))

    assert {0, 1} <= set(ease.state()["item"].tolist())
    assert ease.state()["item"].max() > 30
    assert ease.retrieve(make_users(ease._items, [[0]]), 1).tolist() == [[1]]


def test_pairs_decay_to_the_time_of_the_fit() -> None:
    settings = replace(SETTINGS, half_life=86_400.0)
    ease = train(settings, [[], [0]] * 4, [0, 1] * 4)
    ease.learn(make_actions(ease._items, [[]] * 8, [2] * 8, [START + DAY_MS] * 8))

    assert ease.state()["pairs"][:3, :3].tolist() == [[2, 2, 0], [2, 2, 0], [0, 0, 4]]


def test_replica_gets_no_pairs_and_nothing_between_fits() -> None:
    ease = train(SETTINGS, [[], [0]] * 4, [0, 1] * 4)
    first = ease.changes()
    ease.learn(make_actions(ease._items, [[]], [2], [START]))

    assert sorted(first) == ["item", "neighbor", "weight"]
    assert ease.changes() == {}
