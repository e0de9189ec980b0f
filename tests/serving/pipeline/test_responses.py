"""Responses and impressions: slate size, explanations, propensities."""

from collections import Counter

import msgspec
import pytest

from serving.pipeline.schemas import RecommendationRequest
from stream.topics import EVENTS
from tests.support.serving_loop import NOW, LiveLoop, list_item_ids


def test_explain_returns_channels_features_and_probability(shop: LiveLoop) -> None:
    items = shop.recommend(explain=True, log=False)["items"]

    for item in items:
        assert item["features"]
        assert isinstance(item["channels"], list)
        assert 0 <= item["probability"] <= 1
    assert "features" not in shop.recommend(log=False)["items"][0]


def test_impression_records_the_slate_and_its_propensities(loop: LiveLoop) -> None:
    loop.put_items("a", "b", "c")

    response = loop.recommend(surface="home", ts=NOW - 5000, context={"device": "mobile"})
    loop.run_until_idle()

    impression = msgspec.json.decode(loop.read_values(EVENTS)[0])
    assert impression["impression_id"] == response["impression_id"]
    assert impression["ts"] == NOW - 5000
    assert impression["surface"] == "home"
    assert impression["model_version"] == response["model_version"]
    assert impression["items"] == list_item_ids(response)
    assert impression["propensities"] == [item["propensity"] for item in response["items"]]
    assert impression["sources"] == [item["source"] for item in response["items"]]
    assert loop.http.get("/v1/items/a").json()["counts"]["impression"] == 1


def test_propensities_match_first_position_frequencies(shop: LiveLoop) -> None:
    n = 1000
    counts: Counter[str] = Counter()
    propensities: dict[str, float] = {}
    request = RecommendationRequest(user_id="nobody", k=5, log=False)
    for _ in range(n):
        first = shop.service.recommender.recommend(request, "i", NOW).response.items[0]
        counts[first.item_id] += 1
        propensities[first.item_id] = first.propensity

    assert abs(sum(propensities.values()) - 1) < 0.02
    for item_id, count in counts.items():
        propensity = propensities[item_id]
        std = (propensity * (1 - propensity) / n) ** 0.5
        assert abs(count / n - propensity) < 4 * std + 1e-9


@pytest.mark.parametrize("k", [1, 3, 1000])
def test_slate_has_k_items_if_there_are_enough(shop: LiveLoop, k: int) -> None:
    items = list_item_ids(shop.recommend("nobody", k=k, log=False))

    assert len(items) == len(set(items)) == min(k, 12)
