"""Gradients and updates that are far longer than ever are told while they last, and what is learnt is not served."""

from collections import deque

import numpy as np
import pytest

from online_models.guard.bins import BIN_MS, Bin
from online_models.guard.detectors.gradient_norms import GradientNormDetector
from online_models.guard.findings import Finding

CALM = 40


class Learner:
    """Bins of a learner whose gradients and updates are as long as told, give or take a sixth."""

    def __init__(self, seed: int = 0) -> None:
        self.norms, self.found, self.n = GradientNormDetector(4.0), list[Finding](), 0
        self._bins: deque[Bin] = deque(maxlen=60)
        self._rng = np.random.default_rng(seed)

    def step(self, gradient: float = 1.0, update: float = 1.0, skipped: int = 0, times: int = 1) -> None:
        for _ in range(times):
            off = self._rng.normal(0, 0.17, 2)
            norms = {
                ("gradient_norm", "slate_ranker"): (50 * float(5 * gradient * np.exp(off[0])) ** 2, 50),
                ("update_norm", "two_tower"): (50 * float(0.05 * update * np.exp(off[1])) ** 2, 50),
            }
            one = Bin(
                {0: self.n},
                self.n * BIN_MS,
                (self.n + 1) * BIN_MS,
                squared_norms=norms,
                updates=50,
                skipped_updates=skipped,
            )
            self._bins.append(one)
            self.n += 1
            self.found += self.norms.update(self._bins)


@pytest.mark.parametrize("seed", range(5))
def test_what_goes_up_and_down_as_ever_is_not_told(seed: int) -> None:
    learner = Learner(seed)
    learner.step(times=1_440)

    assert learner.found == []
    assert learner.norms.block_reason == ""


@pytest.mark.parametrize(
    ("longer", "detector", "part"),
    [({"gradient": 4.0}, "gradient_norm", "slate_ranker"), ({"update": 4.0}, "update_norm", "two_tower")],
    ids=["gradient", "update"],
)
def test_what_is_four_times_as_long_is_told_within_three_bins(
    longer: dict[str, float], detector: str, part: str
) -> None:
    learner = Learner()
    learner.step(times=CALM)
    learner.step(**longer, times=3)  # type: ignore[arg-type]

    [found] = learner.found
    assert (found.detector, found.subject, found.kind, found.depth) == (detector, part, "poison", "learner")
    assert found.first_offsets == {0: CALM}
    assert not found.needs_rollback
    assert part in learner.norms.block_reason


def test_one_long_bin_is_not_told() -> None:
    learner = Learner()
    learner.step(times=CALM)
    learner.step(gradient=20.0, times=2)
    learner.step(times=20)

    assert learner.found == []


def test_nothing_is_refused_once_it_is_over() -> None:
    learner = Learner()
    learner.step(times=CALM)
    learner.step(update=4.0, times=5)
    before = learner.norms.block_reason
    learner.step()

    assert before
    assert learner.norms.block_reason == ""


def test_what_lasts_for_half_an_hour_is_the_new_usual() -> None:
    learner = Learner()
    learner.step(times=CALM)
    learner.step(gradient=4.0, times=3 + 31)

    assert len(learner.found) == 1
    assert learner.norms.block_reason == ""


def test_what_stands_out_is_over_after_half_an_hour_even_if_nothing_is_updated_any_more() -> None:
    learner = Learner()
    learner.step(times=CALM)
    learner.step(gradient=4.0, times=3)
    for n in range(100, 140):
        learner.norms.update(deque([Bin({0: n}, n * BIN_MS, (n + 1) * BIN_MS)]))

    assert len(learner.found) == 1
    assert learner.norms.block_reason == ""


def test_a_burst_of_updates_that_are_left_out_is_told_and_a_few_are_not() -> None:
    few, many = Learner(), Learner()
    few.step(skipped=2, times=CALM)
    many.step(times=CALM)
    many.step(skipped=25)

    assert few.found == []
    assert [(one.detector, one.kind) for one in many.found] == [("non_finite", "poison")]
    assert many.found[0].evidence["skipped"] == 25
