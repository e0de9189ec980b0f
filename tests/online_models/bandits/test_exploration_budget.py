"""Exploration stays within its budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits import Posterior
from online_models.bandits.exploration_budget import Budget, RegretLedger, expected_regret

POSTERIOR = Posterior(np.array([0.05, 0.3, 0.01, 0.06]), np.array([0.05, 0.02, 0.005, 0.05]))


def test_item_graduates_by_impressions_or_by_confidence() -> None:
    budget = Budget(impressions=10, confidence=2.0)
    is_cold_start = budget.is_cold_start(np.array([3, 3, 3, 10]), POSTERIOR, threshold=0.05)

    assert is_cold_start.tolist() == [True, False, False, False]


def test_expected_regret_is_the_distance_to_the_best() -> None:
    assert expected_regret(0.3, POSTERIOR.means, np.array([0.0, 1.0, 0.0, 0.0])) == 0
    assert expected_regret(0.3, POSTERIOR.means, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25)
    assert expected_regret(0.0, POSTERIOR.means, np.array([1.0, 0.0, 0.0, 0.0])) == 0


@given(
    slates=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=200),
    budget_regret=st.floats(0.01, 300),
    share=st.floats(0, 1),
)
def test_regret_never_exceeds_the_budget(slates: list[tuple[int, float]], budget_regret: float, share: float) -> None:
    ledger = RegretLedger(Budget(share=share, regret=budget_regret))
    for positions, regret in slates:
        allowed_share = ledger.allowed_share(positions, regret)
        assert 0 <= allowed_share <= share
        ledger.spend(positions, allowed_share, regret)
        assert ledger.total_regret <= budget_regret * ledger.positions / 1000 + 1e-9


def test_unused_budget_expires() -> None:
    ledger = RegretLedger(Budget(share=1.0, regret=10.0), memory=1000)
    for _ in range(1000):
        ledger.spend(positions=100, share=0.0, regret=0.5)

    assert ledger.allowed_share(positions=100, regret=0.5) * 100 * 0.5 == pytest.approx(10.0)


def test_allowed_share_leaves_the_ledger_unchanged() -> None:
    ledger = RegretLedger(Budget(regret=1.0))

    assert len({ledger.allowed_share(10, 0.5) for _ in range(5)}) == 1


@pytest.mark.parametrize("name", ["impressions", "share", "regret", "confidence"])
def test_invalid_budget_is_rejected_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Budget(**{name: -1})


def test_invalid_memory_is_rejected() -> None:
    with pytest.raises(ValueError, match="memory"):
        RegretLedger(Budget(), memory=0)
