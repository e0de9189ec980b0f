"""Every ranker, pointwise model and the click head pass the public checks."""

from collections.abc import Callable

import numpy as np
import pytest

from online_models.checks import LEARNER, POINTWISE_MODEL, RANKER, Exercise
from online_models.checks.learners import Check
from online_models.checks.pointwise_models import Subject, check_batch_splitting, generate_batches
from online_models.checks.rankers import FEATURES, Lists, RankerFactory, generate_lists
from online_models.plugins import BUILT_IN
from online_models.protocols import PointwiseModel
from online_models.rankers import DeepFM, DeepFMSettings, FactorizationMachine, FMSettings, FTRLRegression, FTRLSettings
from online_models.rankers.click_head import ClickHead
from online_models.state.embeddings import EmbeddingSettings

Make = Callable[[int, int], PointwiseModel]

ROWS = EmbeddingSettings(dim=8, scale=0.1)
PICKY = EmbeddingSettings(dim=8, min_count=2, expire_after=2.5 * 86_400)
SEQUENTIAL: dict[str, Make] = {
    "linear": lambda fields, numbers: FTRLRegression(fields, numbers, FTRLSettings(bits=12)),
    "linear with crosses": lambda fields, numbers: FTRLRegression(
        fields, numbers, FTRLSettings(bits=14, crosses=((0, 1),))
    ),
    "fm": lambda fields, numbers: FactorizationMachine(fields, numbers, FMSettings(ROWS)),
    "fm with admission and expiry": lambda fields, numbers: FactorizationMachine(fields, numbers, FMSettings(PICKY)),
}
MODELS: dict[str, Make] = SEQUENTIAL | {
    "deep": lambda fields, numbers: DeepFM(fields, numbers, DeepFMSettings(ROWS, hidden=(16, 8), batch=64)),
    "deep with admission and expiry": lambda fields, numbers: DeepFM(
        fields, numbers, DeepFMSettings(PICKY, hidden=(16,), batch=64)
    ),
}


@pytest.mark.parametrize("check", RANKER, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", BUILT_IN.values(), ids=BUILT_IN.keys())
def test_ranker_passes(make: RankerFactory, check: Callable[[RankerFactory], None]) -> None:
    check(make)


@pytest.mark.parametrize("check", POINTWISE_MODEL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_pointwise_model_passes(make: Make, check: Callable[[Subject], None]) -> None:
    check(Subject(lambda: make(4, 2), generate_batches(4, 2)))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_pointwise_model_needs_no_numbers(make: Make) -> None:
    for check in POINTWISE_MODEL:
        check(Subject(lambda: make(3, 0), generate_batches(3, 0, n_batches=6, n_rows=200)))


@pytest.mark.parametrize("make", SEQUENTIAL.values(), ids=SEQUENTIAL.keys())
def test_row_by_row_training_is_independent_of_batches(make: Make) -> None:
    check_batch_splitting(Subject(lambda: make(4, 2), generate_batches(4, 2)))


@pytest.mark.parametrize("check", LEARNER, ids=lambda check: check.__name__)
def test_click_head_passes(check: Check) -> None:
    batches = generate_lists()
    exercise: Exercise[ClickHead, Lists] = Exercise(
        make=lambda: ClickHead(len(FEATURES)),
        batches=batches,
        learn=lambda head, lists: head.learn(lists.x, lists.labels),
        predict=lambda head: {"probability": head.predict(np.concatenate([lists.x for lists in batches]))},
    )

    check(exercise)
