"""Every detector passes the public checks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from online_models.checks import DETECTOR
from online_models.checks.detectors import Check, MakeDetector
from online_models.guard.bins import Bin
from online_models.guard.detectors.action_outage import ActionOutageDetector
from online_models.guard.detectors.click_through import ClickThroughDetector
from online_models.guard.detectors.event_rate import EventRateDetector
from online_models.guard.detectors.feature_drift import FeatureDriftDetector
from online_models.guard.detectors.gradient_norms import GradientNormDetector
from online_models.guard.detectors.item_distribution import ItemDistributionDetector
from online_models.guard.detectors.label_flip import LabelFlipDetector
from online_models.guard.detectors.missing_fields import MissingFieldsDetector
from online_models.guard.detectors.prediction_quality import PredictionQualityDetector
from online_models.guard.detectors.preference_shift import PreferenceShiftDetector
from online_models.guard.detectors.producer import ProducerDetector
from online_models.guard.detectors.shilling import ShillingDetector
from online_models.guard.findings import Finding
from online_models.model import RecommenderModel
from stream.testing import MemoryLog
from tests.online_models.guard.test_detector_suite import break_button, flip_labels, lose_surface, normal_bin
from tests.support.batches import generate_batches
from tests.support.observations import new_rows, trained_step

Z = 4.0


def ignore_clicks(current: Bin | None) -> bool:
    return False


DETECTORS: dict[str, tuple[MakeDetector, str]] = {
    "action_outage": (partial(ActionOutageDetector, Z), "bins"),
    "missing_fields": (partial(MissingFieldsDetector, Z), "bins"),
    "label_flip": (partial(LabelFlipDetector, Z), "bins"),
    "item_distribution": (partial(ItemDistributionDetector, Z), "bins"),
    "feature_drift": (partial(FeatureDriftDetector, Z), "bins"),
    "gradient_norms": (partial(GradientNormDetector, Z), "bins"),
    "prediction_quality": (partial(PredictionQualityDetector, Z, ignore_clicks), "bins"),
    "shilling": (ShillingDetector, "rows"),
    "event_rate": (EventRateDetector, "rows"),
    "click_through": (partial(ClickThroughDetector, 1.0), "steps"),
    "preference_shift": (partial(PreferenceShiftDetector, 1.0), "steps"),
    "producer": (lambda: ProducerDetector(MemoryLog()), "steps"),
}


def make_bins() -> list[list[Bin]]:
    """Normal bins, then bins in which much is wrong; each observation has one bin more."""
    rng, bins = np.random.default_rng(0), []
    for n in range(40):
        current = normal_bin(n, rng)
        current.feature_names, current.feature_sample = ("f0",), [rng.normal(n // 30, 1, (100, 1)).astype(np.float32)]
        current.squared_norms = {("gradient_norm", "slate_ranker"): (50.0 * (1 + 99 * (n >= 30)), 50)}
        for change in (break_button, flip_labels, lose_surface) if n >= 30 else ():
            change(current, rng)
        bins.append(current)
    return [bins[: n + 1] for n in range(len(bins))]


@pytest.fixture(scope="module")
def observations() -> dict[str, Sequence[Any]]:
    model, batches = RecommenderModel(), generate_batches(4)
    steps = [
        trained_step(result, f"v{n}", {0: n}, result.closed.probability.astype(float))
        for n, result in enumerate(model.learn(batch) for batch in batches)
    ]
    return {"bins": make_bins(), "rows": [new_rows(batch) for batch in batches], "steps": steps}


@pytest.mark.parametrize("check", DETECTOR, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_pass_the_checks(name: str, check: Check, observations: dict[str, Sequence[Any]]) -> None:
    make, kind = DETECTORS[name]

    check(make, observations[kind])


class Careless:
    """A detector that breaks every rule."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng()

    def update(self, observation: list[float]) -> list[Finding]:
        observation.append(0.0)
        return [Finding("poison", "shilling", str(self._rng.random()), {}, {}, None)]  # type: ignore[arg-type]

    def reset(self) -> None: ...


@pytest.mark.parametrize("check", DETECTOR, ids=lambda check: check.__name__)
def test_checks_fail_for_careless_detectors(check: Callable[..., None]) -> None:
    with pytest.raises(AssertionError, match="expected"):
        check(Careless, [[1.0], [2.0]])
