"""The pipeline: determinism, stale profiles, batches."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from serving.pipeline.schemas import RecommendationRequest
from stream.clock import DAY_MS
from stream.topics import EVENTS
from tests.support.faults import UnreachableStore
from tests.support.serving_loop import NOW, LiveLoop, list_item_ids, make_event


def test_slate_without_exploration_is_deterministic(shop: LiveLoop) -> None:
    first = shop.recommend("nobody", explore=False, log=False)

    for user in ("nobody", "nobody", "somebody else"):
        repeated = shop.recommend(user, explore=False, log=False)
        assert repeated["items"] == first["items"]
    assert all(item["propensity"] == 1 for item in first["items"])
    assert not any(item["explored"] for item in first["items"] if "explored" in item)


def test_unlogged_requests_train_nothing(shop: LiveLoop) -> None:
    before, first = shop.log.end_offset(EVENTS, 0), shop.recommend("nobody", log=False)
    propensities_by_item: dict[tuple[str, ...], set[float]] = defaultdict(set)

    for _ in range(50):
        response = shop.recommend("nobody", log=False)
        propensities_by_item[tuple(list_item_ids(response)[:1])].add(response["items"][0]["propensity"])
    shop.run_until_idle()

    assert shop.log.end_offset(EVENTS, 0) == before
    assert response["model_version"] == first["model_version"]
    assert all(len(propensities) == 1 for propensities in propensities_by_item.values())


def test_impressions_count_as_lag_until_they_are_processed(loop: LiveLoop) -> None:
    loop.put_items("a", "b")
    loop.send_events(make_event())
    loop.recommend()
    loop.send_events(make_event())

    assert loop.lag == 3
    loop.run_until_idle()
    assert loop.lag == 0


def test_fresh_items_do_not_depend_on_earlier_requests(loop: LiveLoop) -> None:
    loop.put_items("a", "b", "c")
    loop.send_events(make_event(item_id="a"), make_event(item_id="b"))
    loop.run_until_idle()
    loop.recommend("u1", log=False)

    assert loop.recommend("nobody", k=1, log=False)["items"][0]["propensity"] not in (0.9, 1.0)


def test_response_is_stale_while_the_store_is_unreachable(tmp_path: Path) -> None:
    store = UnreachableStore(is_reachable=True)
    with LiveLoop(tmp_path, store=store) as loop:
        loop.put_items("a", "b")
        store.is_reachable = False

        response = loop.recommend()

        assert response["stale"] is True
        assert sorted(list_item_ids(response)) == ["a", "b"]
        metrics = loop.http.get("/metrics").text
        assert 'headrace_recommendation_fallbacks_total{component="store"}' in metrics


def test_unreadable_user_record_makes_the_response_stale(loop: LiveLoop) -> None:
    loop.put_items("a", "b")
    loop.send_events(make_event(item_id="a"))
    loop.run_until_idle()
    for key, _ in list(loop.store.scan()):
        loop.store.put_many(np.array([key], np.uint64), [b"\x00 invalid record"])

    assert loop.recommend("u1")["stale"] is True


def test_user_record_behind_its_events_makes_response_stale(loop: LiveLoop) -> None:
    loop.put_items("a", "b")
    loop.send_events(make_event(user_id="u1"), make_event(user_id="u2"))

    assert loop.recommend("u1", log=False)["stale"] is False  # the stream worker may take a moment

    loop.clock.advance(6)

    assert loop.recommend("u1", log=False)["stale"] is True
    assert loop.recommend("u3", log=False)["stale"] is False

    loop.run_until_idle()

    assert loop.recommend("u1", log=False)["stale"] is False


@pytest.mark.parametrize("seconds", [10, 3 * 86_400], ids=["a pause", "a clock that jumps ahead"])
def test_user_who_returns_has_no_stale_response(loop: LiveLoop, seconds: float) -> None:
    loop.send_events(make_event(user_id="u1"))
    loop.run_until_idle()
    loop.clock.advance(seconds)
    loop.send_events(make_event(user_id="u1", ts=loop.clock.now_ms()))
    at_once = loop.recommend("u1", log=False)
    loop.clock.advance(6)

    assert at_once["stale"] is False
    assert loop.recommend("u1", log=False)["stale"] is True


REQUEST_VARIANTS: list[dict[str, Any]] = [
    {},
    {"k": 3},
    {"exclude": ["item04"]},
    {"repeats": True},
    {"filters": {"categories": ["food"]}},
    {"candidates": ["item07", "item01", "nowhere"]},
    {"ts": NOW - DAY_MS},
    {"k": 12, "explain": True},
]


def test_batched_requests_equal_single_requests(shop: LiveLoop) -> None:
    recommender = shop.service.recommender
    bodies = [{"user_id": f"u{n % 3}", "explore": False} | fields for n, fields in enumerate(REQUEST_VARIANTS * 3)]
    requests = [msgspec.convert(body, RecommendationRequest) for body in bodies]

    single = [recommender.recommend(request, f"i{n}", NOW).response for n, request in enumerate(requests)]
    batched = recommender.recommend_batch([(request, f"i{n}") for n, request in enumerate(requests)], NOW)

    assert [slate.response for slate in batched] == single
    assert all(response.items for response in single)
