import numpy as np
import pytest

from online_models.checks.rankers import FEATURES, Lists, generate_lists
from online_models.protocols import RankerSettings
from online_models.rankers import FTRLRanker


def test_report_is_independent_of_the_number_of_lists() -> None:
    ranker = FTRLRanker(FEATURES, RankerSettings())
    lists = generate_lists(1, 400)[0]
    cut = int(lists.start[200])
    first = Lists(lists.x[:cut], lists.labels[:cut], lists.start[:201])

    whole, half = ranker.learn(*lists), FTRLRanker(FEATURES, RankerSettings()).learn(*first)

    assert whole.updates == whole.lists > 1.9 * half.updates
    assert half.rms_gradient_norm == pytest.approx(whole.rms_gradient_norm, rel=0.1)


def test_only_lists_with_a_click_and_another_item_train() -> None:
    ranker = FTRLRanker(FEATURES, RankerSettings())
    x = np.random.default_rng(0).normal(size=(6, len(FEATURES))).astype(np.float32)
    report = ranker.learn(x, np.array([0, 0, 0, 1, 0, 0], np.float32), np.array([0, 3, 4, 6]))

    assert report.lists == 0
    assert not ranker.state()["model.dense"].any()


def test_features_of_another_width_are_rejected() -> None:
    with pytest.raises(ValueError, match="must have 5 columns, got 3"):
        FTRLRanker(FEATURES, RankerSettings()).score(np.zeros((2, 3), np.float32), np.array([0, 2]))
