"""Large gradients and updates are reported, and block serving while they last."""

from collections import deque

import numpy as np
import pytest

from online_models.guard.bins import Bin, BinSettings
from online_models.guard.detectors.gradient_norms import GradientNormDetector
from online_models.guard.findings import BlockServing, Finding

CALM = 40  # bins
BIN_MS = BinSettings().min_ms


class Training:
    """Bins of training whose norms are scaled by factors, and vary by a sixth."""

    def __init__(self, seed: int = 0) -> None:
        self.detector, self.findings, self.n = GradientNormDetector(4.0), list[Finding](), 0
        self._bins: deque[Bin] = deque(maxlen=60)
        self._rng = np.random.default_rng(seed)

    def run(self, bins: int, gradient: float = 1.0, update: float = 1.0, skipped: int = 0) -> None:
        for _ in range(bins):
            noise = np.exp(self._rng.normal(0, 0.17, 2))
            norms = {
                ("gradient_norm", "slate_ranker"): (50 * float(5 * gradient * noise[0]) ** 2, 50),
                ("update_norm", "two_tower"): (50 * float(0.05 * update * noise[1]) ** 2, 50),
            }
            times = self.n * BIN_MS, (self.n + 1) * BIN_MS
            self._bins.append(Bin({0: self.n}, *times, squared_norms=norms, updates=50, skipped_updates=skipped))
            self.n += 1
            self.findings += self.detector.update(self._bins)


@pytest.fixture
def training() -> Training:
    """Training whose baseline is known."""
    training = Training()
    training.run(CALM)
    return training


@pytest.mark.parametrize("seed", range(5))
def test_normal_variation_raises_nothing(seed: int) -> None:
    training = Training(seed)
    training.run(1_440)

    assert training.findings == []
    assert training.detector.block_reason == ""


@pytest.mark.parametrize(
    ("gradient", "update", "detector", "component"),
    [(4.0, 1.0, "gradient_norm", "slate_ranker"), (1.0, 4.0, "update_norm", "two_tower")],
    ids=["gradient", "update"],
)
def test_fourfold_norms_are_reported_within_three_bins(
    training: Training, gradient: float, update: float, detector: str, component: str
) -> None:
    training.run(3, gradient, update)

    [finding] = training.findings
    assert (finding.detector, finding.subject, finding.kind) == (detector, component, "poison")
    assert (finding.depth, finding.remedy) == ("learner", BlockServing())
    assert finding.first_offsets == {0: CALM}
    assert component in training.detector.block_reason


def test_two_outlier_bins_raise_nothing(training: Training) -> None:
    training.run(2, gradient=20.0)
    training.run(20)

    assert training.findings == []


def test_serving_resumes_once_norms_are_normal(training: Training) -> None:
    training.run(5, update=4.0)
    reason = training.detector.block_reason
    training.run(1)

    assert reason
    assert training.detector.block_reason == ""


def test_norms_become_the_baseline_after_half_an_hour(training: Training) -> None:
    training.run(3 + 31, gradient=4.0)

    assert len(training.findings) == 1
    assert training.detector.block_reason == ""


def test_blocks_end_after_half_an_hour_without_updates(training: Training) -> None:
    training.run(3, gradient=4.0)
    for n in range(100, 140):
        training.detector.update([Bin({0: n}, n * BIN_MS, (n + 1) * BIN_MS)])

    assert len(training.findings) == 1
    assert training.detector.block_reason == ""


def test_many_skipped_updates_are_reported_and_few_are_not(training: Training) -> None:
    few = Training()
    few.run(CALM, skipped=2)
    training.run(1, skipped=25)

    assert few.findings == []
    assert [(finding.detector, finding.kind) for finding in training.findings] == [("non_finite", "poison")]
    assert training.findings[0].evidence["skipped"] == 25
