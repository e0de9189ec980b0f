"""Questions over HTTP: what may be asked, and what the answers promise."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from serving.pipeline.schemas import RecommendationRequest
from serving.service import Service
from stream.ids import hash_id
from stream.testing import MemoryStore
from stream.topics import EVENTS
from tests.support.serving_loop import NOW, LiveLoop, list_item_ids, make_event

JSON = {"content-type": "application/json"}
DAY = 86_400_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """A dozen items, of which some are known to be liked; nobody here changes it."""
    with LiveLoop(tmp_path_factory.mktemp("shop")) as loop:
        for n in range(12):
            item_id, category = f"item{n:02}", "food" if n % 2 else "toys"
            loop.put_items(item_id, categories=[category], price=n + 0.99, created_ts=NOW - n * DAY)
        loop.send_events(*(make_event(user_id=f"p{n}", item_id=f"item{n % 5:02}") for n in range(40)))
        loop.send_events(*(make_event(user_id="u1", item_id=f"item{n:02}") for n in range(2)))
        loop.run_until_idle()
        yield loop


UNKNOWN_FIELDS = [{"users": 1}, {"K": 5}, {"filters": {"colour": "red"}}]


@pytest.mark.parametrize("extra", UNKNOWN_FIELDS, ids=str)
def test_unknown_field_error_names_the_field(shop: LiveLoop, extra: dict[str, Any]) -> None:
    name = next(iter(extra["filters"])) if "filters" in extra else next(iter(extra))

    query = {"user_id": "u1"} | {key: json.dumps(value) for key, value in extra.items()}

    post_response = shop.http.post("/v1/recommendations", json={"user_id": "u1"} | extra)
    get_response = shop.http.get("/v1/recommendations", params=query)

    for response in (post_response, get_response):
        assert response.status_code == 422
        assert response.json()["field"] == name
        assert name in response.json()["detail"]


INVALID_FIELDS: dict[str, Any] = {
    "k of 0": ({"k": 0}, "k"),
    "k of -1": ({"k": -1}, "k"),
    "k of 1001": ({"k": 1001}, "k"),
    "k as text": ({"k": "five"}, "k"),
    "k as a float": ({"k": 1.5}, "k"),
    "ts below 0": ({"ts": -1}, "ts"),
    "a huge ts": ({"ts": 10**30}, "ts"),
    "an empty user_id": ({"user_id": ""}, "user_id"),
    "a long user_id": ({"user_id": "é" * 129}, "user_id"),
    "a control character": ({"user_id": "u\x00"}, "user_id"),
    "an empty candidate": ({"candidates": [""]}, "candidates"),
    "a number to exclude": ({"exclude": [5]}, "exclude"),
    "explore as text": ({"explore": "maybe"}, "explore"),
    "context as a list": ({"context": [1]}, "context"),
    "a long context": ({"context": {"a": "x" * 20_000}}, "context"),
    "a long surface": ({"surface": "x" * 257}, "surface"),
    "too many candidates": ({"candidates": [f"c{n}" for n in range(1001)]}, "candidates"),
}


@pytest.mark.parametrize(("fields", "field"), INVALID_FIELDS.values(), ids=INVALID_FIELDS.keys())
def test_invalid_field_error_names_the_field(shop: LiveLoop, fields: dict[str, Any], field: str) -> None:
    response = shop.http.post("/v1/recommendations", json={"user_id": "u1"} | fields)

    assert response.status_code == 422
    assert response.json()["field"] == field


def test_request_without_a_user_names_the_missing_field(shop: LiveLoop) -> None:
    responses = [shop.http.post("/v1/recommendations", json={}), shop.http.get("/v1/recommendations")]

    assert [(response.status_code, response.json()["field"]) for response in responses] == [(422, "user_id")] * 2


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b"1", 422), (b'{"user_id":"\xff"}', 400), (b'{"user_id":"\\ud800"}', 422)],
)
def test_invalid_request_body_is_rejected(shop: LiveLoop, body: bytes, status: int) -> None:
    response = shop.http.post("/v1/recommendations", content=body, headers=JSON)

    assert response.status_code == status


@pytest.mark.parametrize("k", [1, 3, 1000])
def test_slate_has_k_items_if_there_are_enough(shop: LiveLoop, k: int) -> None:
    items = list_item_ids(shop.recommend("nobody", k=k, log=False))

    assert len(items) == len(set(items)) == min(k, 12)


def test_get_and_post_return_the_same_items(shop: LiveLoop) -> None:
    fields: dict[str, Any] = {
        "k": 5,
        "surface": "home",
        "ts": NOW - DAY,
        "exclude": ["item03", "item04"],
        "repeats": True,
        "explore": False,
        "log": False,
        "explain": True,
        "context": {"device": "mobile"},
        "filters": {"categories": ["food"], "max_price": 9},
    }
    query: dict[str, Any] = {"user_id": "u1"} | fields
    query |= {name: json.dumps(fields[name]) for name in ("context", "filters")}

    response = shop.http.get("/v1/recommendations", params=query)

    assert response.status_code == 200
    assert response.json()["items"] == shop.recommend(**fields)["items"] != []
    query = {"user_id": "u1", "candidates": ["item05", "x,y"], "explore": "0"}
    assert sorted(list_item_ids(shop.http.get("/v1/recommendations", params=query).json())) == ["item05", "x,y"]


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


def test_propensities_match_first_position_frequencies(shop: LiveLoop) -> None:
    n = 1000
    counts, propensities = Counter[str](), {}
    request = RecommendationRequest(user_id="nobody", k=5, log=False)
    for _ in range(n):
        first = shop.service.recommender.recommend(request, "i", NOW).response.items[0]
        counts[first.item_id] += 1
        propensities[first.item_id] = first.propensity

    assert abs(sum(propensities.values()) - 1) < 0.02
    for item_id, count in counts.items():
        assert (
            abs(count / n - propensities[item_id])
            < 4 * (propensities[item_id] * (1 - propensities[item_id]) / n) ** 0.5 + 1e-9
        )


def test_only_the_requested_candidates_are_ranked(shop: LiveLoop) -> None:
    candidates = ["item03", "unheard of", "item01", "item03", "日本/語"]

    items = list_item_ids(shop.recommend(candidates=candidates, log=False))

    assert sorted(items) == sorted(set(candidates))
    assert list_item_ids(shop.recommend(candidates=candidates, k=2, log=False)) == items[:2]


def test_empty_candidates_give_an_empty_slate(shop: LiveLoop) -> None:
    assert list_item_ids(shop.recommend(candidates=[], log=False)) == []


def test_candidates_may_be_excluded_and_filtered(shop: LiveLoop) -> None:
    candidates = ["item03", "unheard of", "item01", "item02"]
    response = shop.recommend(candidates=candidates, exclude=["item01"], filters={"categories": ["food"]}, log=False)

    assert list_item_ids(response) == ["item03"]


def test_excluded_items_are_not_returned(shop: LiveLoop) -> None:
    excluded = [f"item{n:02}" for n in range(0, 12, 3)]

    assert not set(list_item_ids(shop.recommend("nobody", k=100, exclude=[*excluded, "unheard of"], log=False))) & set(
        excluded
    )


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        ({"categories": ["food"]}, range(1, 12, 2)),
        ({"categories": ["food", "toys"]}, range(12)),
        ({"categories": []}, []),
        ({"categories": ["", "shoes"]}, []),
        ({"min_price": 5.99}, range(5, 12)),
        ({"max_price": 5.99}, range(6)),
        ({"min_price": 2, "max_price": 4}, [2, 3]),
        ({"categories": ["toys"], "max_price": 4.99}, [0, 2, 4]),
        ({"min_price": 1e300}, []),
        ({}, range(12)),
    ],
    ids=str,
)
@pytest.mark.parametrize("explore", [False, True])
def test_all_returned_items_pass_the_filters(
    shop: LiveLoop, filters: dict[str, Any], passing: Any, explore: bool
) -> None:
    items = list_item_ids(shop.recommend("nobody", k=100, filters=filters, explore=explore, log=False))

    assert sorted(items) == [f"item{n:02}" for n in passing]


def test_interacted_items_are_returned_only_on_request(shop: LiveLoop) -> None:
    interacted = {"item00", "item01"}

    assert not interacted & set(list_item_ids(shop.recommend("u1", k=100, log=False)))
    assert interacted <= set(list_item_ids(shop.recommend("u1", k=100, repeats=True, log=False)))


def test_explain_returns_channels_features_and_probability(shop: LiveLoop) -> None:
    items = shop.recommend(explain=True, log=False)["items"]

    for item in items:
        assert item["features"]
        assert isinstance(item["channels"], list)
        assert 0 <= item["probability"] <= 1
    assert "features" not in shop.recommend(log=False)["items"][0]


@pytest.mark.parametrize("ts", [0, NOW - 400 * DAY, NOW + DAY, 1 << 53])
def test_request_may_have_any_timestamp(shop: LiveLoop, ts: int) -> None:
    assert len(list_item_ids(shop.recommend("u1", ts=ts, log=False))) == 10


@pytest.mark.parametrize("context", [{"n": 10**25, "b": True, "l": [1, {"x": None}], "s": "日本"}, {"é\n": "\t"}, {}])
def test_context_may_contain_any_json(loop: LiveLoop, context: dict[str, Any]) -> None:
    loop.put_items("a", "b")

    loop.recommend(context=context)
    loop.run_until_idle()

    assert msgspec.json.decode(loop.read_values(EVENTS)[0])["context"] == context


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


def test_impressions_count_as_lag_until_they_are_processed(loop: LiveLoop) -> None:
    loop.put_items("a", "b")
    loop.send_events(make_event())
    loop.recommend()
    loop.send_events(make_event())

    assert loop.lag == 3
    loop.run_until_idle()
    assert loop.lag == 0


def test_empty_catalog_gives_an_empty_slate(loop: LiveLoop) -> None:
    responses = [
        loop.recommend(),
        loop.recommend(candidates=["x"], filters={"max_price": 5}),
        loop.recommend(explore=False),
    ]

    assert [list_item_ids(response) for response in responses] == [[], [], []]
    assert list_item_ids(loop.recommend(candidates=["x"])) == ["x"]


def test_items_outside_the_catalog_are_not_returned(loop: LiveLoop) -> None:
    loop.send_events(*(make_event(user_id=f"u{n}", item_id="ghost") for n in range(5)))
    loop.run_until_idle()

    assert list_item_ids(loop.recommend("u9")) == []


def test_deleted_and_unavailable_items_are_not_returned(loop: LiveLoop) -> None:
    loop.put_items("a", "b", "c", "d")
    loop.send_events(*(make_event(user_id=f"u{n}", item_id=item_id) for n in range(5) for item_id in "abcd"))
    loop.run_until_idle()

    loop.http.delete("/v1/items/a")
    loop.http.put("/v1/items/b", json={"available": False})

    for explore in (False, True):
        assert set(list_item_ids(loop.recommend("nobody", explore=explore, log=False))) == {"c", "d"}
    loop.run_until_idle()
    assert set(list_item_ids(loop.recommend("nobody", log=False))) == {"c", "d"}
    loop.http.put("/v1/items/b", json={"available": True})
    assert set(list_item_ids(loop.recommend("nobody", log=False))) == {"b", "c", "d"}


def test_fresh_items_do_not_depend_on_earlier_requests(loop: LiveLoop) -> None:
    loop.put_items("a", "b", "c")
    loop.send_events(make_event(item_id="a"), make_event(item_id="b"))
    loop.run_until_idle()
    loop.recommend("u1", log=False)

    assert loop.recommend("nobody", k=1, log=False)["items"][0]["propensity"] not in (0.9, 1.0)


class UnreachableStore(MemoryStore):
    """A store that cannot be reached when a question comes."""

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        raise ConnectionError("no route to the store")


def test_response_is_stale_while_the_store_is_unreachable(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, store=UnreachableStore()) as loop:
        loop.put_items("a", "b")

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
        loop.store.put_many(np.array([key], np.uint64), [b"\x00 no record"])

    assert loop.recommend("u1")["stale"] is True


def test_catalog_fills_the_slate_when_channels_find_too_few(loop: LiveLoop) -> None:
    loop.put_items(*(f"item{n}" for n in range(40)), categories=["all"], price=5.0)
    loop.put_items(*(f"rare{n}" for n in range(12)), categories=["rare"], price=7.0)
    response = loop.recommend(k=20, filters={"categories": ["rare"]}, explore=False)

    assert sorted(list_item_ids(response)) == sorted(f"rare{n}" for n in range(12))


def test_user_record_behind_its_events_makes_response_stale(loop: LiveLoop) -> None:
    loop.put_items("a", "b")
    loop.send_events(make_event(user_id="u1"), make_event(user_id="u2"))

    assert loop.recommend("u1", log=False)["stale"] is False  # the stream worker may take a moment

    loop.clock.advance(6)

    assert loop.recommend("u1", log=False)["stale"] is True
    assert loop.recommend("u3", log=False)["stale"] is False

    loop.run_until_idle()

    assert loop.recommend("u1", log=False)["stale"] is False


REQUEST_VARIANTS = [
    {},
    {"k": 3},
    {"exclude": ["item04"]},
    {"repeats": True},
    {"filters": {"categories": ["food"]}},
    {"candidates": ["item07", "item01", "nowhere"]},
    {"ts": NOW - DAY},
    {"k": 12, "explain": True},
]


def test_batched_requests_equal_single_requests(shop: LiveLoop) -> None:
    recommender = shop.service.recommender
    plain = [{"user_id": f"u{n % 3}", "explore": False} | fields for n, fields in enumerate(REQUEST_VARIANTS * 3)]
    requests = [msgspec.convert(fields, RecommendationRequest) for fields in plain]
    single = [recommender.recommend(request, f"i{n}", NOW).response for n, request in enumerate(requests)]
    batched = recommender.recommend_batch([(request, f"i{n}") for n, request in enumerate(requests)], NOW)

    assert [slate.response for slate in batched] == single
    assert all(response.items for response in single)


def test_failing_request_does_not_affect_other_requests(tmp_path: Path) -> None:
    class FailingUserStore(MemoryStore):
        """Breaks over one person."""

        def get_many(self, keys: np.ndarray) -> list[bytes | None]:
            if hash_id("hated") in keys.tolist():
                raise RuntimeError("no")
            return super().get_many(keys)

    async def send_requests(service: Service) -> list[Any]:
        requests = [RecommendationRequest(user_id=user_id, log=False) for user_id in ("ann", "hated", "ben")]
        return await asyncio.gather(*map(service.recommend, requests), return_exceptions=True)

    with LiveLoop(tmp_path, store=FailingUserStore()) as loop:
        loop.put_items("a", "b")
        ann, failed, ben = loop.http.blocking_portal.call(send_requests, loop.service)

    assert isinstance(failed, RuntimeError)
    assert [len(response.items) for response in (ann, ben)] == [2, 2]
