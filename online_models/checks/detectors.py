"""Checks of detectors: `for check in DETECTOR: check(make, observations)`.

`make()` gives a new detector, each time the same. The observations start normal, and end abnormal.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from online_models.guard.detector import Detector
from online_models.guard.findings import Finding

MakeDetector = Callable[[], Detector[Any]]  # a new detector, each time the same
Check = Callable[[MakeDetector, Sequence[Any]], None]


def run(detector: Detector[Any], observations: Sequence[Any]) -> list[Finding]:
    return [finding for observation in observations for finding in detector.update(observation)]


def check_update_leaves_observations_unchanged(make: MakeDetector, observations: Sequence[Any]) -> None:
    copies = deepcopy(observations)
    run(make(), observations)

    assert _is_equal(copies, observations), "update() has changed an observation; expected a copy to be changed"


def check_same_observations_give_same_findings(make: MakeDetector, observations: Sequence[Any]) -> None:
    first, second = (run(make(), observations) for _ in range(2))

    assert first == second, "the second run gave other findings; expected no randomness and no clock"


def check_first_observation_reports_nothing(make: MakeDetector, observations: Sequence[Any]) -> None:
    findings = make().update(observations[0])

    assert findings == [], f"{findings} from a single observation; expected none without a baseline"


def check_reset_discards_the_baseline(make: MakeDetector, observations: Sequence[Any]) -> None:
    detector = make()
    run(detector, observations[:-1])
    detector.reset()
    findings = detector.update(observations[-1])

    assert findings == [], f"{findings} right after reset(); expected none without a baseline"


def check_reset_gives_a_new_detector(make: MakeDetector, observations: Sequence[Any]) -> None:
    detector, new = make(), make()
    run(detector, observations)
    detector.reset()

    assert run(detector, observations) == run(new, observations), (
        "other findings after reset(); expected those of a new detector"
    )


def check_constant_input_is_quiet(make: MakeDetector, observations: Sequence[Any]) -> None:
    findings = run(make(), [observations[0]] * 40)

    assert findings == [], f"{findings} from one observation repeated; expected none without a change"


def _is_equal(a: Any, b: Any) -> bool:
    if is_dataclass(a):
        return all(_is_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_is_equal(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(_is_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


DETECTOR: tuple[Check, ...] = (
    check_update_leaves_observations_unchanged,
    check_same_observations_give_same_findings,
    check_first_observation_reports_nothing,
    check_reset_discards_the_baseline,
    check_reset_gives_a_new_detector,
    check_constant_input_is_quiet,
)
