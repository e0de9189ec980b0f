from collections.abc import Callable

import pytest

from online_models.checks import CHECKS, Check, generated, splitting_a_batch_changes_nothing
from online_models.protocols import Ranker
from online_models.rankers import DeepFM, DeepSettings, FactorizationMachine, FMSettings, Linear, LinearSettings
from online_models.state.embeddings import EmbeddingSettings

Make = Callable[[int, int], Ranker]

ROWS = EmbeddingSettings(dim=8, scale=0.1)
PICKY = EmbeddingSettings(dim=8, sights=2, unseen=2.5 * 86_400)
SEQUENTIAL: dict[str, Make] = {
    "linear": lambda fields, numbers: Linear(fields, numbers, LinearSettings(bits=12)),
    "linear with crosses": lambda fields, numbers: Linear(fields, numbers, LinearSettings(bits=14, crosses=((0, 1),))),
    "fm": lambda fields, numbers: FactorizationMachine(fields, numbers, FMSettings(ROWS)),
    "fm with admission and expiry": lambda fields, numbers: FactorizationMachine(fields, numbers, FMSettings(PICKY)),
}
RANKERS: dict[str, Make] = SEQUENTIAL | {
    "deep": lambda fields, numbers: DeepFM(fields, numbers, DeepSettings(ROWS, hidden=(16, 8), batch=64)),
    "deep with admission and expiry": lambda fields, numbers: DeepFM(
        fields, numbers, DeepSettings(PICKY, hidden=(16,), batch=64)
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", RANKERS.values(), ids=RANKERS.keys())
def test_every_ranker_passes(make: Make, check: Check) -> None:
    check(lambda: make(4, 2), generated(4, 2))


@pytest.mark.parametrize("make", RANKERS.values(), ids=RANKERS.keys())
def test_a_ranker_needs_no_numbers(make: Make) -> None:
    for check in CHECKS:
        check(lambda: make(3, 0), generated(3, 0, batches=6, rows=200))


@pytest.mark.parametrize("make", SEQUENTIAL.values(), ids=SEQUENTIAL.keys())
def test_learning_row_by_row_does_not_see_how_rows_are_batched(make: Make) -> None:
    splitting_a_batch_changes_nothing(lambda: make(4, 2), generated(4, 2))
