"""Constant features are poison, moving features are drift; stable ones raise nothing."""

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from online_models.guard.bins import Bin, BinSettings
from online_models.guard.detectors.feature_drift import FeatureDriftDetector
from online_models.guard.findings import AlarmOnly, Finding

CALM, LENGTH = 70, 15  # bins
BIN_MS = BinSettings().min_ms
NAMES = (*(f"f{n}" for n in range(100)), "rare", "flag", "shared", "counter", "hour_sin")
RARE, FLAG, SHARED, COUNTER, HOUR = range(100, 105)
Change = Callable[[np.ndarray, np.random.Generator], None]


def normal_rows(n: int, rng: np.random.Generator) -> np.ndarray:
    """Items of twenty slates: features differ by item or slate, grow, or follow the clock."""
    rows = rng.gamma(2.0, 1.0, (200, len(NAMES))).astype(np.float32)
    rows[:, RARE] = rng.random(200) < 0.02
    rows[:, FLAG] = rng.random(200) < 0.5
    rows[:, SHARED] = np.repeat(rng.normal(size=20), 10)
    rows[:, COUNTER] = np.log(rng.poisson(50 + 10 * n, 200) + 1)
    rows[:, HOUR] = np.sin(n / 240)
    return rows


def find(change: Change, calm: int = CALM, seed: int = 1, length: int = LENGTH) -> list[tuple[int, Finding]]:
    """Findings, each with the number of changed bins before it."""
    rng, detector, findings = np.random.default_rng(seed), FeatureDriftDetector(4.0), []
    bins: deque[Bin] = deque(maxlen=60)
    for n in range(calm + length):
        rows = normal_rows(n, rng)
        if n >= calm:
            change(rows, rng)
        sample = [rows[:100], rows[100:]]
        bins.append(Bin({0: 1_000 * n}, n * BIN_MS, (n + 1) * BIN_MS, feature_names=NAMES, feature_sample=sample))
        findings += [(n - calm, finding) for finding in detector.update(bins)]
    return findings


def nothing(rows: np.ndarray, rng: np.random.Generator) -> None:
    pass


def lose(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, [3, SHARED]] = 0


def lose_rare(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, RARE] = 0


def stop_clock(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, HOUR] = 0.5


def move(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, [3, 4]] *= 3


def move_slightly(rows: np.ndarray, rng: np.random.Generator) -> None:
    rows[:, [3, 4]] *= 1.1


def test_constant_features_are_poison() -> None:
    bins, finding = find(lose)[0]

    assert bins <= 5
    assert (finding.detector, finding.kind, finding.subject) == ("feature_drift", "poison", "constant")
    assert finding.remedy == AlarmOnly()
    assert finding.evidence["constant_values"]["f3"] == 0.0


def test_moving_features_are_drift_with_their_distances() -> None:
    bins, finding = find(move)[0]
    features = finding.evidence["drifted_features"]

    assert bins <= 8
    assert (finding.detector, finding.kind) == ("feature_drift", "drift")
    assert set(features) == {"f3", "f4"}
    assert features["f3"]["psi"] > 0.25
    assert features["f3"]["ks"] > 0.2


@pytest.mark.parametrize("change", [nothing, lose_rare, stop_clock, move_slightly])
@pytest.mark.parametrize("seed", range(3))
def test_small_and_usual_changes_raise_nothing(change: Change, seed: int) -> None:
    assert find(change, seed=seed, length=60) == []


@pytest.mark.parametrize("change", [lose, move])
def test_nothing_is_reported_while_the_baseline_is_short(change: Change) -> None:
    assert find(change, calm=5) == []


def test_findings_start_a_new_baseline() -> None:
    assert len(find(move, length=120)) == 1


def test_other_feature_counts_start_a_new_baseline() -> None:
    detector = FeatureDriftDetector(4.0)
    for width in (5, 7):
        sample = [np.zeros((100, width), np.float32)]

        assert detector.update([Bin({}, 0, BIN_MS, feature_names=NAMES[:width], feature_sample=sample)]) == []
