from pathlib import Path

import numpy as np
import pytest

from online_models.model import RecommenderModel, settings_with_seed
from tests.support.batches import generate_batches

ROOT = Path(__file__).parents[2]


def test_own_ranker_serves_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    model = RecommenderModel(settings_with_seed(0, "own_ranker:PriceAware"))
    for batch in generate_batches(12):
        result = model.learn(batch)

    assert result.report.slate_ranker.updates == 1
    assert np.count_nonzero(model.state()["slate_ranker.weights"])
