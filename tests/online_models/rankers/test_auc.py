import numpy as np
import pytest

from online_models.rankers.auc import auc_score, list_auc, list_metrics
from online_models.rankers.list_softmax import log_softmax_by_list


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ([0.5, 0.5, 0.5], [1, 0, 0], 0.5),
        ([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0], 3.5 / 4),
    ],
    ids=["pairs", "all tied", "one tie"],
)
def test_auc_is_the_share_of_concordant_pairs(scores: list[float], labels: list[int], expected: float) -> None:
    assert auc_score(np.array(scores), np.array(labels)) == expected
    assert list_auc(np.array(scores), np.array(labels, float)) == expected


def test_auc_of_one_class_is_undefined() -> None:
    assert auc_score(np.array([0.1, 0.2]), np.array([1, 1])) is None
    assert list_auc(np.array([0.1, 0.2]), np.array([1.0, 1.0])) == 0.5


def test_list_metrics_are_means_over_labeled_lists() -> None:
    rng = np.random.default_rng(0)
    start, scores = np.array([0, 4, 4, 5, 9, 12]), rng.normal(size=12).astype(np.float32)
    labels = np.zeros(12, np.float32)
    labels[[1, 4, 10]] = 1  # the second of these is alone in its list

    n_lists, loss, auc = list_metrics(scores, labels, start)
    log_p = log_softmax_by_list(scores, start[[0, 1, 3, 4, 5]])

    assert n_lists == 2
    assert loss == pytest.approx(-log_p[[1, 10]].mean(), rel=1e-6)
    assert auc == np.mean([list_auc(scores[:4], labels[:4]), list_auc(scores[9:], labels[9:])])
