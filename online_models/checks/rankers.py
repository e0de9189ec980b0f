"""Checks of rankers: `for check in RANKER: check(MyRanker)`."""

from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from online_models.checks.learners import (
    LEARNER,
    Exercise,
    adapt,
    assert_finite,
    assert_same_bits,
    copy_state,
    require,
)
from online_models.protocols import Ranker, RankerSettings
from online_models.rankers.auc import list_metrics
from online_models.state.tables import State

RankerFactory = Callable[[tuple[str, ...], RankerSettings], Ranker]
FEATURES = ("popularity", "recency", "price", "affinity", "constant")
_SETTINGS = RankerSettings(name="checked", seed=3)
_TOLERANCE = 1e-4  # of scores, between matrix products of different shapes
_MIN_AUC = 0.65  # where guessing has 0.5 and the true order about 0.85


class Lists(NamedTuple):
    """One batch for `Ranker.learn`."""

    x: np.ndarray  # (m, len(FEATURES)) float32
    labels: np.ndarray  # (m,) float32
    start: np.ndarray  # (n + 1,) int64


def generate_lists(n_batches: int = 8, n_lists: int = 60, seed: int = 0) -> list[Lists]:
    """Lists of 2 to 9 items with one click each, by a softmax of three features.

    One list in ten has no click.
    """
    rng = np.random.default_rng(seed)
    slope = np.array([1.5, -1.0, 0.7, 0.0, 0.0])
    batches = []
    for _ in range(n_batches):
        start = np.concatenate([[0], np.cumsum(rng.integers(2, 10, n_lists))])
        x = rng.normal(0, 1, (int(start[-1]), slope.size)).astype(np.float32)
        x[:, -1] = 1
        utility, labels = x @ slope + rng.gumbel(size=x.shape[0]), np.zeros(x.shape[0], np.float32)
        for begin, end in pairwise(start):
            labels[begin + utility[begin:end].argmax()] = rng.random() < 0.9
        batches.append(Lists(x, labels, start))
    return batches


def exercise_ranker(make: RankerFactory) -> Exercise[Ranker, Lists]:
    batches = generate_lists()
    queries = [batches[0], batches[-1]]

    def predict(ranker: Ranker) -> State:
        scores = {f"score {i}": ranker.score(lists.x, lists.start) for i, lists in enumerate(queries)}
        return scores | {f"hidden {i}": ranker.hidden(lists.x) for i, lists in enumerate(queries)}

    return Exercise(
        make=lambda: make(FEATURES, _SETTINGS),
        batches=batches,
        learn=lambda ranker, lists: ranker.learn(*lists),
        predict=predict,
    )


def check_scores_have_one_value_per_item(make: RankerFactory) -> None:
    exercise = exercise_ranker(make)
    for ranker in (exercise.make(), exercise.train()):
        for x, _, start in exercise.batches:
            scores = ranker.score(x, start)
            is_valid = scores.dtype == np.float32 and scores.shape == (x.shape[0],)
            require(is_valid, f"scores must be ({x.shape[0]},) float32, got {scores.shape} {scores.dtype}")
            assert_finite({"score": scores}, "scores")


def check_hidden_has_features_and_own_columns(make: RankerFactory) -> None:
    exercise = exercise_ranker(make)
    for ranker in (exercise.make(), exercise.train()):
        for x, _, start in exercise.batches:
            hidden, shape = ranker.hidden(x), (x.shape[0], len(FEATURES) + ranker.width)
            is_valid = hidden.dtype == np.float32 and hidden.shape == shape
            require(is_valid, f"hidden must be {shape} float32, got {hidden.shape} {hidden.dtype}")
            scores = {"score": ranker.scores_from_hidden(x, hidden, start)}
            assert_same_bits({"score": ranker.score(x, start)}, scores, "scores_from_hidden")


def check_lists_are_scored_alone(make: RankerFactory) -> None:
    ranker = exercise_ranker(make).train()
    x, _, start = generate_lists(1, seed=5)[0]
    scores = ranker.score(x, start)
    for begin, end in pairwise(start):
        alone = ranker.score(x[begin:end], np.array([0, end - begin]))
        gap = float(abs(np.diff(scores[begin:end]) - np.diff(alone)).max())
        require(gap < _TOLERANCE, f"scores must not depend on other lists, but differences move by {gap}")


def check_no_lists(make: RankerFactory) -> None:
    ranker = exercise_ranker(make).train()
    before = copy_state(ranker.state())
    for start in (np.zeros(1, np.int64), np.zeros(3, np.int64)):
        x = np.zeros((0, len(FEATURES)), np.float32)
        ranker.learn(x, np.zeros(0, np.float32), start)
        assert_same_bits(before, ranker.state(), "the state after a batch without items")
        require(ranker.score(x, start).shape == (0,), "a batch without items must have no scores")


def check_empty_lists_between_others(make: RankerFactory) -> None:
    exercise = exercise_ranker(make)
    plain, mixed = exercise.make(), exercise.make()
    for x, labels, start in exercise.batches:
        padded = np.sort(np.concatenate([start, start[:1], start[5:6], start[-1:]]))
        plain.learn(x, labels, start)
        mixed.learn(x, labels, padded)
        scores = {"score": mixed.score(x, padded)}
        assert_same_bits({"score": plain.score(x, start)}, scores, "the scores of a ranker that saw empty lists")


def check_extreme_values_stay_finite(make: RankerFactory) -> None:
    exercise = exercise_ranker(make)
    ranker, good = exercise.train(), exercise.batches[0]
    for value in (-100.0, 0.0, 1e-30, 100.0):
        for labels in (good.labels, np.zeros_like(good.labels), np.ones_like(good.labels)):
            ranker.learn(np.full_like(good.x, value), labels, good.start)
            ranker.learn(good.x * np.float32(100 / abs(good.x).max()), labels, good.start)
            assert_finite(exercise.predict(ranker), "predictions after extreme features")
            assert_finite(ranker.state(), "the state after extreme features")


def check_report_is_finite(make: RankerFactory) -> None:
    exercise = exercise_ranker(make)
    ranker = exercise.make()
    for batch in exercise.batches:
        report = ranker.learn(*batch)
        values = {name: np.asarray(value, float) for name, value in asdict(report).items()}
        assert_finite(values, "the report")
        require(report.updates + report.skipped > 0, f"a report must count its updates, got {report}")


def check_beats_random_order(make: RankerFactory) -> None:
    exercise = exercise_ranker(make)
    ranker = exercise.train(generate_lists(n_batches=60))
    x, labels, start = generate_lists(1, 200, seed=7)[0]
    _, _, auc = list_metrics(ranker.score(x, start), labels, start)
    require(auc > _MIN_AUC, f"AUC on new lists must be above {_MIN_AUC}, got {auc:.3f}")


RANKER: tuple[Callable[[RankerFactory], None], ...] = (
    *adapt(LEARNER, exercise_ranker),
    check_scores_have_one_value_per_item,
    check_hidden_has_features_and_own_columns,
    check_lists_are_scored_alone,
    check_no_lists,
    check_empty_lists_between_others,
    check_extreme_values_stay_finite,
    check_report_is_finite,
    check_beats_random_order,
)
