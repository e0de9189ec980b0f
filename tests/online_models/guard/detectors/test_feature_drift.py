"""A feature that breaks is told as poison, one that moves as drift, a hundred that stay where they are as nothing."""

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from online_models.guard.bins import BIN_MS, Bin
from online_models.guard.detectors.feature_drift import FeatureDriftDetector
from online_models.guard.findings import Finding

CALM, LENGTH = 70, 15
NAMES = (*(f"f{n}" for n in range(100)), "seldom", "flag", "shared", "counter", "hour_sin")
SELDOM, FLAG, SHARED, COUNTER, HOUR = range(100, 105)
Change = Callable[[np.ndarray, np.random.Generator], None]


def usual(n: int, rng: np.random.Generator) -> np.ndarray:
    """Places of twenty slates: most features differ by place, some by slate, one grows, one tells the time."""
    rows = rng.gamma(2.0, 1.0, (200, len(NAMES))).astype(np.float32)
    rows[:, SELDOM] = rng.random(200) < 0.02
    rows[:, FLAG] = rng.random(200) < 0.5
    rows[:, SHARED] = np.repeat(rng.normal(size=20), 10)
    rows[:, COUNTER] = np.log(rng.poisson(50 + 10 * n, 200) + 1)
    rows[:, HOUR] = np.sin(n / 240)
    return rows


def told(change: Change, calm: int = CALM, seed: int = 1, length: int = LENGTH) -> list[tuple[int, Finding]]:
    rng, monitor, found = np.random.default_rng(seed), FeatureDriftDetector(4.0), []
    bins: deque[Bin] = deque(maxlen=60)
    for n in range(calm + length):
        rows = usual(n, rng)
        if n >= calm:
            change(rows, rng)
        bins.append(
            Bin(
                {0: 1_000 * n},
                n * BIN_MS,
                (n + 1) * BIN_MS,
                feature_names=NAMES,
                feature_sample=[rows[:100], rows[100:]],
            )
        )
        found += [(n - calm, one) for one in monitor.update(bins)]
        assert bins[-1].feature_sample == []
    return found


def nothing(rows: np.ndarray, rng: np.random.Generator) -> None:
    pass


def lose(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, [3, SHARED]] = 0


def lose_what_is_seldom(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, SELDOM] = 0


def stop_the_clock(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, HOUR] = 0.5


def move(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, [3, 4]] *= 3


def move_a_little(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, [3, 4]] *= 1.1


def test_a_feature_that_is_the_same_for_all_is_broken_and_poison() -> None:
    bins, found = told(lose)[0]

    assert bins <= 5
    assert (found.detector, found.kind, found.subject, found.needs_rollback) == (
        "feature_drift",
        "poison",
        "constant",
        False,
    )
    assert found.evidence["constant_values"]["f3"] == 0.0


def test_features_that_move_are_named_with_how_far_and_are_drift() -> None:
    bins, found = told(move)[0]

    assert bins <= 8
    assert (found.detector, found.kind) == ("feature_drift", "drift")
    assert set(found.evidence["drifted_features"]) == {"f3", "f4"}
    assert found.evidence["drifted_features"]["f3"]["psi"] > 0.25
    assert found.evidence["drifted_features"]["f3"]["ks"] > 0.2


@pytest.mark.parametrize("change", [nothing, lose_what_is_seldom, stop_the_clock, move_a_little])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_usual_or_little_is_not_told(change: Change, seed: int) -> None:
    assert told(change, seed=seed, length=60) == []


@pytest.mark.parametrize("change", [lose, move])
def test_nothing_is_told_before_enough_was_seen(change: Change) -> None:
    assert told(change, calm=5) == []


def test_after_an_alarm_what_is_now_is_the_new_usual() -> None:
    assert len(told(move, length=120)) == 1


def test_other_features_begin_anew() -> None:
    monitor = FeatureDriftDetector(4.0)
    for width in (5, 7):
        bins = deque(
            [Bin({}, 0, BIN_MS, feature_names=NAMES[:width], feature_sample=[np.zeros((100, width), np.float32)])]
        )

        assert monitor.update(bins) == []
