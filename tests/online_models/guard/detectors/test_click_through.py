"""Falls of click-through are poison if an older version predicted them, and drift otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.guard.detectors.click_through import ClickThroughDetector, RateDropTest
from online_models.guard.findings import Finding, FollowDrift, RollBack
from online_models.versions.checkpoints import version_name
from stream.ids import hash_id
from stream.records.batches import ExampleBatch, Kind
from tests.support.batches import START, make_batch, make_lists, make_queries
from tests.support.observations import closing_step, trained_step

SLATES, POSITIONS, FALL = 50, 6, 120  # of a step; the step after which click-through falls


def closed_batch(step: int, rate: float, rng: np.random.Generator) -> ExampleBatch:
    """Slates that the version before this step made."""
    ts = np.full(SLATES, START + 1000 * step)
    labels = [[float(clicked)] + [0.0] * (POSITIONS - 1) for clicked in rng.random(SLATES) < rate]
    queries, slates = make_queries(SLATES, [[]] * SLATES, ts), make_lists([list(range(POSITIONS))] * SLATES, labels)
    batch = make_batch([Kind.closed] * SLATES, queries, slates, np.arange(SLATES, dtype=np.uint64))
    return replace(batch, version=np.full(SLATES, hash_id(version_name(1, step - 1)), np.uint64))


def update(detector: ClickThroughDetector, step: int, batch: ExampleBatch, probability: float) -> list[Finding]:
    predictions = np.full(SLATES * POSITIONS, probability)
    offsets = {0: SLATES * step}
    return detector.update(trained_step(closing_step(batch), version_name(1, step), offsets, predictions))


def run(
    n_steps: int, rate_after: float = 0.3, predicted_after: float = 1.0, seed: int = 0
) -> list[tuple[int, Finding]]:
    """Findings with their steps.

    `predicted_after`: factor on the older version's predictions after the fall.
    """
    rng, detector, findings = np.random.default_rng(seed), ClickThroughDetector(1.0), []
    for step in range(1, n_steps):
        rate, factor = (rate_after, predicted_after) if step > FALL else (0.3, 1.0)
        batch = closed_batch(step, rate, rng)
        findings += [(step, finding) for finding in update(detector, step, batch, 0.06 * factor)]
    return findings


@pytest.mark.parametrize("seed", range(3))
def test_equal_versions_raise_nothing(seed: int) -> None:
    assert run(1_000, seed=seed) == []


def test_worse_versions_are_poison_from_their_first_slate_on() -> None:
    [(step, finding)] = run(FALL + 60, rate_after=0.15, predicted_after=0.5)

    assert step - FALL <= 20
    assert (finding.depth, finding.kind, finding.remedy) == ("service", "poison", RollBack())
    assert abs(finding.first_offsets[0] / SLATES - FALL) <= 6
    assert finding.evidence["rate"] < 0.2 < finding.evidence["rate_before"]


def test_unpredicted_falls_are_drift() -> None:
    findings = run(FALL + 60, rate_after=0.15)

    assert [(finding.kind, finding.remedy) for _, finding in findings] == [("drift", FollowDrift())]


def test_small_falls_are_tolerated() -> None:
    assert run(FALL + 400, rate_after=0.28, predicted_after=0.9) == []


def test_slates_of_unknown_versions_are_ignored() -> None:
    rng, detector = np.random.default_rng(0), ClickThroughDetector(1.0)
    for step in range(1, FALL + 60):
        batch = closed_batch(step, 0.3 if step < FALL else 0.0, rng)

        assert update(detector, step, replace(batch, version=np.zeros(SLATES, np.uint64)), 0.06) == []


def test_false_alarms_are_at_most_as_frequent_as_promised() -> None:
    rng, run_length, runs = np.random.default_rng(0), 2_000.0, 200
    alarms = sum(
        RateDropTest(run_length).update((rng.random(1_000) < 0.3).astype(float), min_rate=0.3) for _ in range(runs)
    )
    drops = [(rng.random(1_000) < 0.15).astype(float) for _ in range(20)]

    # At most rows / run_length of the runs, whatever the rate is.
    assert alarms <= 0.5 * runs
    assert all(RateDropTest(run_length).update(drop, min_rate=0.3) for drop in drops)


def test_rows_give_the_same_evidence_together_and_one_by_one() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.random(300) < 0.25).astype(float)
    whole, split = RateDropTest(1e6), RateDropTest(1e6)
    whole.update(rows, min_rate=0.3)
    for row in rows:
        split.update(np.array([row]), min_rate=0.3)

    assert split.log_evidence == pytest.approx(whole.log_evidence)
    assert split.rows_since_change == whole.rows_since_change
