"""Each check of rankers fails for a ranker that breaks its rule."""

from collections.abc import Callable

import numpy as np
import pytest

from online_models.checks import rankers
from online_models.checks.rankers import RANKER, RankerFactory
from online_models.protocols import LearnReport, Ranker, RankerSettings
from online_models.rankers.list_softmax import softmax_by_list
from online_models.state.tables import State


class LinearRanker(Ranker):
    """Passes all checks."""

    def __init__(self, features: tuple[str, ...], settings: RankerSettings) -> None:
        self.weights = np.zeros(len(features), np.float32)

    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        scores: np.ndarray = x @ self.weights
        return scores

    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        gradient = x.T @ (softmax_by_list(self.score(x, start), start) - labels)
        self.weights -= np.float32(0.05) * gradient.clip(-1, 1)
        return LearnReport.from_gradient(gradient)

    def state(self) -> State:
        return {"weights": self.weights}

    def restore(self, state: State) -> None:
        self.weights = state["weights"].copy()


class ChangesItsInput(LinearRanker):
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        x *= 2
        return super().learn(x, labels, start)


class CountsScores(LinearRanker):
    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        self.weights = self.weights + np.float32(1e-3)
        return super().score(x, start)


class Random(LinearRanker):
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        self.weights += np.random.default_rng().normal(0, 0.01, self.weights.size).astype(np.float32)
        return super().learn(x, labels, start)


class ForgetsState(LinearRanker):
    def restore(self, state: State) -> None:
        self.weights = self.weights * 0


class SharesState(LinearRanker):
    def restore(self, state: State) -> None:
        self.weights = state["weights"]


class SendsNothing(LinearRanker):
    def changes(self) -> State:
        return {}

    def apply(self, changes: State) -> None: ...


class DoublePrecision(LinearRanker):
    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        return super().score(x, start).astype(np.float64)


class WrongWidth(LinearRanker):
    @property
    def width(self) -> int:
        return 3


class ComparesLists(LinearRanker):
    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        return super().score(x, start) * np.float32(start.size)


class Explodes(LinearRanker):
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        report = super().learn(x, labels, start)
        if abs(x).max(initial=0) > 50:
            self.weights[:] = np.nan
        return report


class ReportsNothing(LinearRanker):
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        super().learn(x, labels, start)
        return LearnReport()


class LearnsNothing(LinearRanker):
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        return LearnReport(updates=1)


class DriftsWithoutData(LinearRanker):
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        self.weights *= np.float32(0.99)
        return super().learn(x, labels, start)


class CountsLists(LinearRanker):
    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        self.weights *= np.float32(1 - 1e-4 * start.size)
        return super().learn(x, labels, start)


BROKEN: dict[str, RankerFactory] = {
    "check_learn_keeps_input": ChangesItsInput,
    "check_predict_keeps_state": CountsScores,
    "check_same_seed_same_run": Random,
    "check_restore_continues_exactly": ForgetsState,
    "check_replica_matches": SendsNothing,
    "check_scores_have_one_value_per_item": DoublePrecision,
    "check_hidden_has_features_and_own_columns": WrongWidth,
    "check_lists_are_scored_alone": ComparesLists,
    "check_no_lists": DriftsWithoutData,
    "check_empty_lists_between_others": CountsLists,
    "check_extreme_values_stay_finite": Explodes,
    "check_report_is_finite": ReportsNothing,
    "check_beats_random_order": LearnsNothing,
}


@pytest.mark.parametrize("check", RANKER, ids=lambda check: check.__name__)
def test_check_fails_for_a_broken_ranker(check: Callable[[RankerFactory], None]) -> None:
    check(LinearRanker)

    with pytest.raises(AssertionError):
        check(BROKEN[check.__name__])


def test_restored_state_must_be_a_copy() -> None:
    check = next(check for check in RANKER if check.__name__ == "check_restore_continues_exactly")

    with pytest.raises(ValueError, match="read-only"):
        check(SharesState)


def test_generated_lists_repeat() -> None:
    first, second = rankers.generate_lists(2), rankers.generate_lists(2)

    assert all(
        (a == b).all() for left, right in zip(first, second, strict=True) for a, b in zip(left, right, strict=True)
    )
