"""Detector protocol, and the observations that detectors take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from online_models.guard.bins import Bin, NewRows
from online_models.guard.findings import Finding
from online_models.guard.reference_model import ReferencePredictions
from online_models.step_result import StepResult

Observation_contra = TypeVar("Observation_contra", contravariant=True)


class Detector(Protocol[Observation_contra]):
    """Compare each observation with a baseline of earlier ones.

    1. `update` compares the observation with the baseline, and then adds it to the baseline. It leaves the observation
       unchanged, and reports nothing while the baseline is too short.
    2. A finding says since which offsets it holds, and which remedy it requests. The guard carries out the remedy.
    3. `reset` discards what a rollback or a changed feature definition made obsolete. The next observations form a new
       baseline.

    Only observations carry time, and there is no randomness: the same observations give the same findings.
    """

    def update(self, observation: Observation_contra, /) -> list[Finding]: ...

    def reset(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainedStep:
    """A training step, with the version that it led to."""

    rows: NewRows
    result: StepResult
    version: str
    offsets: dict[int, int]  # next offset of the events that the version covers, by partition
    predictions: ReferencePredictions | None = None  # of the closed impressions, by an older version
    bin: Bin | None = None  # that the step's rows went into


BinDetector = Detector[Sequence[Bin]]  # the latest bin is the last of the sequence
RowDetector = Detector[NewRows]
StepDetector = Detector[TrainedStep]
