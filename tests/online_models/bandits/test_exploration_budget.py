"""What exploring may cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits import Posterior
from online_models.bandits.exploration_budget import Budget, RegretLedger, expected_regret

JUDGED = Posterior(np.array([0.05, 0.3, 0.01, 0.06]), np.array([0.05, 0.02, 0.005, 0.05]))


def test_an_item_graduates_by_impressions_or_by_certainty() -> None:
    fresh = Budget(impressions=10, confidence=2.0).is_cold_start(np.array([3, 3, 3, 10]), JUDGED, threshold=0.05)

    assert fresh.tolist() == [True, False, False, False]


def test_what_is_lost_is_the_distance_to_the_best() -> None:
    assert expected_regret(0.3, JUDGED.means, np.array([0.0, 1.0, 0.0, 0.0])) == 0
    assert expected_regret(0.3, JUDGED.means, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25)
    assert expected_regret(0.0, JUDGED.means, np.array([1.0, 0.0, 0.0, 0.0])) == 0


@given(
    slates=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=200),
    loss=st.floats(0.01, 300),
    share=st.floats(0, 1),
)
def test_what_is_lost_never_exceeds_the_budget(slates: list[tuple[int, float]], loss: float, share: float) -> None:
    ledger = RegretLedger(Budget(share=share, regret=loss))
    for places, each in slates:
        allowed = ledger.allowed_share(places, each)
        assert 0 <= allowed <= share
        ledger.spend(places, allowed, each)
        assert ledger.total_regret <= loss * ledger.positions / 1000 + 1e-9


def test_what_was_saved_long_ago_cannot_be_spent_at_once() -> None:
    ledger = RegretLedger(Budget(share=1.0, regret=10.0), memory=1000)
    for _ in range(1000):
        ledger.spend(positions=100, share=0.0, regret=0.5)

    assert ledger.allowed_share(positions=100, regret=0.5) * 100 * 0.5 == pytest.approx(10.0)


def test_asking_for_the_share_changes_nothing() -> None:
    ledger = RegretLedger(Budget(regret=1.0))

    assert len({ledger.allowed_share(10, 0.5) for _ in range(5)}) == 1


@pytest.mark.parametrize("wrong", ["impressions", "share", "regret", "confidence"])
def test_a_budget_that_cannot_be_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Budget(**{wrong: -1})


def test_a_memory_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="memory"):
        RegretLedger(Budget(), memory=0)
