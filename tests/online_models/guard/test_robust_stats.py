"""Tests against a baseline fire on a change, and hardly ever without one."""

import numpy as np
import pytest

from online_models.guard.robust_stats import MedianBaseline, PageHinkley, RateBaseline, psi, z_threshold


def z_scores(counts: np.ndarray, exposure: float = 100.0) -> list[float]:
    rate = RateBaseline(min_bins=20)
    return [deviation.z for count in counts.tolist() if (deviation := rate.update(count, exposure))]


def test_baselines_report_nothing_while_they_are_short() -> None:
    assert len(z_scores(np.full(60, 10.0))) == 60 - 22
    assert [MedianBaseline(min_bins=5).update(1.0) for _ in range(3)] == [None] * 3


def test_steady_rates_exceed_the_threshold_as_often_as_allowed() -> None:
    rng = np.random.default_rng(0)
    z = np.concatenate([z_scores(rng.poisson(10, 500)) for _ in range(20)])

    # Each bin lies in three windows, so an outlier counts about three times.
    assert (z > z_threshold(1.0, 100.0)).mean() < 0.02
    assert (z > z_threshold(1.0, 10_000.0)).sum() <= 10


def test_swinging_rates_are_compared_with_their_own_spread() -> None:
    swinging = 60 + 50 * np.sin(np.arange(400) / 4)

    assert max(z_scores(swinging.round())) < 3


@pytest.mark.parametrize(("after", "sign"), [(0.0, -1), (30.0, 1)])
def test_rates_that_stop_or_jump_stand_out_within_three_bins(after: float, sign: int) -> None:
    rng = np.random.default_rng(1)
    z = z_scores(np.concatenate([rng.poisson(10, 60), np.full(3, after)]))

    assert sign * z[-1] > 4


def test_compared_bins_do_not_move_the_baseline() -> None:
    rate = RateBaseline(min_bins=5)
    for _ in range(20):
        rate.update(10, 100)
    before = rate.compare(0, 100)
    for _ in range(50):
        rate.compare(0, 100)

    assert rate.compare(0, 100) == before


def test_page_hinkley_finds_a_rising_mean() -> None:
    rng = np.random.default_rng(2)
    steady, test = rng.normal(0, 1, 2_000), PageHinkley(slack=0.5, threshold=12)

    assert not any(test.update(z) for z in steady.tolist())
    assert any(test.update(z) for z in (1.5 + rng.normal(0, 1, 30)).tolist())


def test_psi_is_zero_for_equal_shares_only() -> None:
    reference = np.full(8, 100.0)

    assert psi(reference, reference * 3) == pytest.approx(0, abs=1e-4)
    assert psi(reference, np.array([800.0, *[0] * 7])) > 1
