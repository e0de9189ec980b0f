"""A version whose slates are answered less is undone if the version before foresaw it, and followed if nobody did."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.guard.detectors.click_through import ClickThroughDetector, RateDropTest
from online_models.guard.findings import Finding
from online_models.guard.reference_model import ReferencePredictions
from online_models.versions.checkpoints import version_name
from stream.ids import hash_id
from stream.records.batches import ExampleBatch, Kind
from tests.support.batches import START, batch_of, lists, questions

SLATES, PLACES, FALL = 50, 6, 120  # a step; the step from which on less is answered


def closed(step: int, rate: float, rng: np.random.Generator) -> ExampleBatch:
    """Slates made by the version before this step."""
    ts = np.full(SLATES, START + 1000 * step)
    labels = [[float(answered)] + [0.0] * (PLACES - 1) for answered in rng.random(SLATES) < rate]
    batch = batch_of(
        [Kind.closed] * SLATES, questions(SLATES, [[]] * SLATES, ts), lists([list(range(PLACES))] * SLATES, labels),
        np.arange(SLATES, dtype=np.uint64),
    )  # fmt: skip
    return replace(batch, version=np.full(SLATES, hash_id(version_name(1, step - 1)), np.uint64))


def run(steps: int, rate_after: float = 0.3, foreseen_after: float = 1.0, seed: int = 0) -> list[tuple[int, Finding]]:
    rng, clicks, found = np.random.default_rng(seed), ClickThroughDetector(1.0), []
    for step in range(1, steps):
        late = step > FALL
        batch = closed(step, rate_after if late else 0.3, rng)
        judged = ReferencePredictions(np.full(SLATES * PLACES, 0.06 * (foreseen_after if late else 1.0)))
        fresh = np.ones(SLATES, np.bool_)
        found += [(step, one) for one in clicks.update(batch, fresh, judged, version_name(1, step), {0: SLATES * step})]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_told_of_versions_that_are_all_the_same(seed: int) -> None:
    assert run(1_000, seed=seed) == []


def test_a_version_that_chooses_worse_is_poison_from_its_first_slate_on() -> None:
    [(step, found)] = run(FALL + 60, rate_after=0.15, foreseen_after=0.5)

    assert step - FALL <= 20
    assert (found.depth, found.kind, found.needs_rollback) == ("service", "poison", True)
    assert abs(found.first_offsets[0] / SLATES - FALL) <= 6
    assert found.evidence["rate"] < 0.2 < found.evidence["rate_before"]


def test_a_world_that_has_changed_is_drift_and_nothing_is_undone() -> None:
    found = run(FALL + 60, rate_after=0.15)

    assert [(one.kind, one.needs_rollback) for _, one in found] == [("drift", False)]


def test_a_small_fall_is_put_up_with() -> None:
    assert run(FALL + 400, rate_after=0.28, foreseen_after=0.9) == []


def test_slates_of_versions_nobody_knows_are_not_judged() -> None:
    rng, clicks = np.random.default_rng(0), ClickThroughDetector(1.0)
    for step in range(1, FALL + 60):
        batch = replace(closed(step, 0.3 if step < FALL else 0.0, rng), version=np.zeros(SLATES, np.uint64))
        judged = ReferencePredictions(np.full(SLATES * PLACES, 0.06))

        assert clicks.update(batch, np.ones(SLATES, np.bool_), judged, version_name(1, step), {}) == []


def test_false_alarms_are_as_rare_as_was_said_whenever_one_looks() -> None:
    rng, patience, runs = np.random.default_rng(0), 2_000.0, 200
    alarmed = sum(
        RateDropTest(patience).update((rng.random(1_000) < 0.3).astype(float), min_rate=0.3) for _ in range(runs)
    )

    # At most rows / patience of the runs, whatever the rate is.
    assert alarmed <= 0.5 * runs
    assert all(RateDropTest(patience).update((rng.random(1_000) < 0.15).astype(float), min_rate=0.3) for _ in range(20))


def test_rows_come_to_the_same_in_one_go_and_one_by_one() -> None:
    rng = np.random.default_rng(1)
    rows = (rng.random(300) < 0.25).astype(float)
    whole, split = RateDropTest(1e6), RateDropTest(1e6)
    whole.update(rows, min_rate=0.3)
    for row in rows:
        split.update(np.array([row]), min_rate=0.3)

    assert split.log_evidence == pytest.approx(whole.log_evidence)
    assert split.rows_since_change == whole.rows_since_change
