"""Observations for detectors: all rows of a batch are new."""

from dataclasses import replace

import numpy as np

from online_models.guard.bins import NewRows
from online_models.guard.detector import TrainedStep
from online_models.guard.reference_model import ReferencePredictions
from online_models.progressive_predictions import ClosedImpressions
from online_models.step_result import StepResult
from stream.records.batches import ExampleBatch, Kind


def new_rows(batch: ExampleBatch, partition: np.ndarray | None = None, **fields: object) -> NewRows:
    n = len(batch)
    rows = NewRows(batch, np.zeros(n, np.int64) if partition is None else partition, np.ones(n, np.bool_), {})
    return replace(rows, **fields)  # type: ignore[arg-type]


def trained_step(
    result: StepResult,
    version: str = "v1",
    offsets: dict[int, int] | None = None,
    probability: np.ndarray | None = None,
) -> TrainedStep:
    """A step whose closed impressions an older version predicted with these probabilities, (m,)."""
    predictions = None if probability is None else ReferencePredictions(probability)
    return TrainedStep(new_rows(result.batch), result, version, offsets or {}, predictions)


def closing_step(batch: ExampleBatch) -> StepResult:
    """The result of a step that closed these impressions."""
    lists = batch.select(Kind.closed)
    return StepResult(batch, closed=ClosedImpressions(lists, np.full(lists.flat.size, 0.1, np.float32)))
