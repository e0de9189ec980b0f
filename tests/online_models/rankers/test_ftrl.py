import math

import numpy as np
import pytest

from online_models.checks.pointwise_models import generate_batches
from online_models.protocols import FeatureRows
from online_models.rankers import FTRLRegression, FTRLSettings


def rows(keys: list[list[int]], label: list[float]) -> FeatureRows:
    n = len(label)
    numbers = np.zeros((n, 0), np.float32)
    return FeatureRows(
        np.array(keys, np.uint64), numbers, np.array(label, np.float32), np.ones(n, np.float32), np.arange(n + 1)
    )


def test_updates_match_algorithm_1_of_mcmahan() -> None:
    alpha, beta, l1, l2 = 0.2, 1.5, 0.3, 0.4
    batch = rows([[5]] * 40, [float(i % 3 == 0) for i in range(40)])
    z, n, w = np.zeros(2), np.zeros(2), np.zeros(2)  # the id and the bias
    for label in batch.label:
        w = np.where(abs(z) <= l1, 0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2))
        g = 1 / (1 + math.exp(-w.sum())) - label
        z += g - (np.sqrt(n + g * g) - np.sqrt(n)) / alpha * w
        n += g * g
    w = np.where(abs(z) <= l1, 0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2))
    ranker = FTRLRegression(1, 0, FTRLSettings(alpha, beta, l1, l2))

    ranker.learn(batch)

    assert ranker.predict(batch)[0] == pytest.approx(1 / (1 + math.exp(-w.sum())), rel=1e-5)


def test_l1_keeps_weights_of_rare_ids_at_zero() -> None:
    ranker = FTRLRegression(4, 2, FTRLSettings(bits=12, l1=2.0))
    for batch in generate_batches(4, 2):
        ranker.learn(batch)

    hashed = ranker.state()["sparse"]

    assert 0 < np.count_nonzero(hashed[:, 2]) < 0.5 * np.count_nonzero(hashed[:, 1])


def test_same_id_in_two_fields_has_two_weights() -> None:
    ranker = FTRLRegression(2, 0)
    for _ in range(50):
        ranker.learn(rows([[5, 7], [7, 5]], [1.0, 0.0]))

    scores = ranker.predict(rows([[5, 7], [7, 5]], [1.0, 0.0]))

    assert scores[0] > 0.7
    assert scores[1] < 0.3


def test_crosses_learn_an_exclusive_or() -> None:
    exclusive_or = rows([[1, 1], [1, 2], [2, 1], [2, 2]], [0.0, 1.0, 1.0, 0.0])
    plain, crossed = FTRLRegression(2, 0), FTRLRegression(2, 0, FTRLSettings(crosses=((0, 1),)))
    for _ in range(200):
        plain.learn(exclusive_or)
        crossed.learn(exclusive_or)

    assert abs(plain.predict(exclusive_or) - 0.5).max() < 0.1
    assert abs(crossed.predict(exclusive_or) - exclusive_or.label).max() < 0.2


def test_weight_multiplies_the_gradient() -> None:
    light, heavy = FTRLRegression(1, 0), FTRLRegression(1, 0)
    batch = rows([[5]], [1.0])
    light.learn(batch)
    heavy.learn(FeatureRows(batch.keys, batch.numbers, batch.label, np.full(1, 3, np.float32), batch.start))

    assert heavy.predict(batch)[0] > light.predict(batch)[0] > 0.5


def test_invalid_rows_are_counted() -> None:
    batch = rows([[5], [6], [7]], [1.0, math.nan, 2.0])
    ranker = FTRLRegression(1, 0)

    ranker.learn(batch)

    assert ranker.skipped == 2
    assert np.count_nonzero(ranker.state()["sparse"][:, 1]) == 1


@pytest.mark.parametrize(
    "bad",
    [{"alpha": 0.0}, {"beta": math.nan}, {"l1": -1.0}, {"l2": math.inf}, {"bits": 40}, {"clip": 0.0}],
    ids=str,
)
def test_settings_name_the_invalid_value(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        FTRLSettings(**bad)  # type: ignore[arg-type]


def test_cross_needs_two_existing_fields() -> None:
    with pytest.raises(ValueError, match=r"pairs of fields from 0 to 1, got \(0, 2\)"):
        FTRLRegression(2, 0, FTRLSettings(crosses=((0, 2),)))
