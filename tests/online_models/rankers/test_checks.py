from collections.abc import Callable

import pytest

from online_models.checks import CHECKS, Check, check_batch_splitting, generate_batches
from online_models.protocols import Ranker
from online_models.rankers import DeepFM, DeepFMSettings, FactorizationMachine, FMSettings, FTRLRegression, FTRLSettings
from online_models.state.embeddings import EmbeddingSettings

Make = Callable[[int, int], Ranker]

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
RANKERS: dict[str, Make] = SEQUENTIAL | {
    "deep": lambda fields, numbers: DeepFM(fields, numbers, DeepFMSettings(ROWS, hidden=(16, 8), batch=64)),
    "deep with admission and expiry": lambda fields, numbers: DeepFM(
        fields, numbers, DeepFMSettings(PICKY, hidden=(16,), batch=64)
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", RANKERS.values(), ids=RANKERS.keys())
def test_every_ranker_passes(make: Make, check: Check) -> None:
    check(lambda: make(4, 2), generate_batches(4, 2))


@pytest.mark.parametrize("make", RANKERS.values(), ids=RANKERS.keys())
def test_a_ranker_needs_no_numbers(make: Make) -> None:
    for check in CHECKS:
        check(lambda: make(3, 0), generate_batches(3, 0, n_batches=6, n_rows=200))


@pytest.mark.parametrize("make", SEQUENTIAL.values(), ids=SEQUENTIAL.keys())
def test_learning_row_by_row_does_not_see_how_rows_are_batched(make: Make) -> None:
    check_batch_splitting(lambda: make(4, 2), generate_batches(4, 2))
