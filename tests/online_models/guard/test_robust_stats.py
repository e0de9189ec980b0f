"""Detectors fire on what has changed, and hardly ever on what has not."""

import numpy as np
import pytest

from online_models.guard.robust_stats import MedianBaseline, PageHinkley, RateBaseline, psi, z_threshold


def rate_of(counts: np.ndarray, exposure: float = 100.0) -> list[float]:
    rate = RateBaseline(min_bins=20)
    return [odd.z for count in counts.tolist() if (odd := rate.update(count, exposure))]


def test_nothing_is_said_before_enough_was_seen() -> None:
    assert len(rate_of(np.full(60, 10.0))) == 60 - 22
    assert [MedianBaseline(min_bins=5).update(1.0) for _ in range(3)] == [None] * 3


def test_a_steady_rate_passes_for_the_number_of_times_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    z = np.concatenate([rate_of(rng.poisson(10, 500)) for _ in range(20)])

    # Three bins lie in each window, so that what stands out does so about three times.
    assert (z > z_threshold(1.0, 100.0)).mean() < 0.02
    assert (z > z_threshold(1.0, 10_000.0)).sum() <= 10


def test_a_rate_that_always_swings_is_judged_by_its_own_swings() -> None:
    swinging = 60 + 50 * np.sin(np.arange(400) / 4)

    assert max(rate_of(swinging.round())) < 3


@pytest.mark.parametrize(("after", "sign"), [(0.0, -1), (30.0, 1)])
def test_a_rate_that_stops_or_jumps_stands_out_within_three_bins(after: float, sign: int) -> None:
    rng = np.random.default_rng(1)
    z = rate_of(np.concatenate([rng.poisson(10, 60), np.full(3, after)]))

    assert sign * z[-1] > 4


def test_a_bin_that_is_judged_does_not_move_the_reference() -> None:
    rate = RateBaseline(min_bins=5)
    for _ in range(20):
        rate.update(10, 100)
    before = rate.compare(0, 100)
    for _ in range(50):
        rate.compare(0, 100)

    assert rate.compare(0, 100) == before


def test_a_mean_that_rises_is_found_and_one_that_stays_is_not() -> None:
    rng = np.random.default_rng(2)
    steady, test = rng.normal(0, 1, 2_000), PageHinkley(slack=0.5, threshold=12)

    assert not any(test.update(z) for z in steady.tolist())
    assert any(test.update(z) for z in (1.5 + rng.normal(0, 1, 30)).tolist())


def test_equal_shares_have_no_psi_and_others_have() -> None:
    reference = np.full(8, 100.0)

    assert psi(reference, reference * 3) == pytest.approx(0, abs=1e-4)
    assert psi(reference, np.array([800.0, *[0] * 7])) > 1
