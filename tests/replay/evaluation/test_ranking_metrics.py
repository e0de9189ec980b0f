"""Ranking metrics agree with cases computed by hand."""

import math

import numpy as np
import pytest

from online_models.rankers.auc import auc_score
from replay.evaluation.ranking_metrics import (
    ClickMetrics,
    ListMetrics,
    TopKMetrics,
    bootstrap_interval,
    calibration_ratio,
    log_loss,
    target_rank,
)


def test_rank_counts_higher_scores_and_half_of_ties() -> None:
    scores = np.array([5.0, 3.0, 3.0, 3.0, 1.0])

    assert [target_rank(scores, target) for target in range(5)] == [0.0, 2.0, 2.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ([0.5, 0.5, 0.5], [1, 0, 0], 0.5),
        ([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0], 3.5 / 4),
        ([0.1, 0.2], [1, 1], None),
    ],
    ids=["pairs", "all tied", "one tie", "one class"],
)
def test_auc_is_the_share_of_ordered_pairs(scores: list[float], labels: list[int], expected: float | None) -> None:
    assert auc_score(np.array(scores), np.array(labels)) == expected


def test_top_k_metrics_use_ranks_below_k() -> None:
    targets = TopKMetrics(k=2)
    targets.update(np.array([0.0, 1.0]), np.array([1, 2], np.uint64))
    targets.update(np.array([1.5, 2.0, math.inf]), np.array([1, 2, 3], np.uint64))
    values = targets.values()

    assert values["hr"] == values["recall"] == 3 / 5
    assert values["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 2.5) / 5)
    assert values["ndcg"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(3.5)) / 5)


def test_list_metrics_are_means_over_lists() -> None:
    ordered = ListMetrics()
    ordered.update(np.array([3.0, 2.0, 1.0]), clicked=0)
    ordered.update(np.array([3.0, 2.0, 1.0]), clicked=1)
    ordered.update(np.array([1.0, 1.0, 1.0]), clicked=2)

    assert ordered.values() == {
        "impression_auc": pytest.approx((1 + 0.5 + 0.5) / 3),
        "impression_mrr": pytest.approx((1 + 0.5 + 0.5) / 3),
    }


def test_click_metrics_pool_all_items() -> None:
    outcomes = ClickMetrics()
    outcomes.update(np.array([9.0, 1.0]), np.array([0.8, 0.4]), np.array([1.0, 0.0]))
    outcomes.update(np.array([0.0, 5.0]), np.array([0.6, 0.2]), np.array([1.0, 0.0]))
    values = outcomes.values()

    assert values["auc"] == 1.0
    assert values["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.6) + math.log(0.6) + math.log(0.8)) / 4)
    assert values["calibration"] == pytest.approx(2.0 / 2)


def test_scores_without_probabilities_have_only_an_auc() -> None:
    outcomes = ClickMetrics()
    outcomes.update(np.array([2.0, 1.0]), None, np.array([0.0, 1.0]))

    assert outcomes.values() == {"auc": 0.0, "log_loss": None, "calibration": None}


def test_confident_mistake_has_a_finite_loss() -> None:
    assert log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(-math.log(1e-7))


def test_metrics_without_data_are_none() -> None:
    assert set(TopKMetrics(k=10).values().values()) == {None}
    assert set(ListMetrics().values().values()) == {None}
    assert set(ClickMetrics().values().values()) == {None}
    assert calibration_ratio(np.array([0.5]), np.array([0.0])) is None


def test_interval_is_wider_where_users_differ() -> None:
    hits = np.tile([1.0, 0.0], 200)
    alike = bootstrap_interval(hits, np.repeat(np.arange(200), 2))  # each user hits once
    different = bootstrap_interval(hits, np.arange(400))

    assert alike == [0.5, 0.5]
    assert different[0] == pytest.approx(0.45, abs=0.01)
    assert different[1] == pytest.approx(0.55, abs=0.01)
    assert different == bootstrap_interval(hits, np.arange(400))
