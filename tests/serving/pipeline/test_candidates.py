"""Candidates: requested, excluded, filtered, deleted and repeated items."""

from typing import Any

import pytest

from stream.clock import DAY_MS
from tests.support.serving_loop import NOW, LiveLoop, list_item_ids, make_event


def test_only_the_requested_candidates_are_ranked(shop: LiveLoop) -> None:
    candidates = ["item03", "unknown item", "item01", "item03", "日本/語"]

    items = list_item_ids(shop.recommend(candidates=candidates, log=False))

    assert sorted(items) == sorted(set(candidates))
    assert list_item_ids(shop.recommend(candidates=candidates, k=2, log=False)) == items[:2]


def test_empty_candidates_give_an_empty_slate(shop: LiveLoop) -> None:
    assert list_item_ids(shop.recommend(candidates=[], log=False)) == []


def test_candidates_may_be_excluded_and_filtered(shop: LiveLoop) -> None:
    candidates = ["item03", "unknown item", "item01", "item02"]

    response = shop.recommend(candidates=candidates, exclude=["item01"], filters={"categories": ["food"]}, log=False)

    assert list_item_ids(response) == ["item03"]


def test_excluded_items_are_not_returned(shop: LiveLoop) -> None:
    excluded = [f"item{n:02}" for n in range(0, 12, 3)]

    items = list_item_ids(shop.recommend("nobody", k=100, exclude=[*excluded, "unknown item"], log=False))

    assert not set(items) & set(excluded)


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
        ({"created_after": NOW - 2 * DAY_MS}, range(3)),
        ({"or": [{"max_price": 1}, {"min_price": 11}]}, [0, 11]),
        ({"not": {"categories": ["toys"]}}, range(1, 12, 2)),
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


def test_empty_catalog_gives_an_empty_slate(loop: LiveLoop) -> None:
    responses = [
        loop.recommend(),
        loop.recommend(candidates=["x"], filters={"max_price": 5}),
        loop.recommend(explore=False),
    ]

    assert [list_item_ids(response) for response in responses] == [[], [], []]
    assert list_item_ids(loop.recommend(candidates=["x"])) == ["x"]


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


def test_catalog_fills_the_slate_when_channels_find_too_few(loop: LiveLoop) -> None:
    loop.put_items(*(f"item{n}" for n in range(40)), categories=["all"], price=5.0)
    loop.put_items(*(f"rare{n}" for n in range(12)), categories=["rare"], price=7.0)

    response = loop.recommend(k=20, filters={"categories": ["rare"]}, explore=False)

    assert sorted(list_item_ids(response)) == sorted(f"rare{n}" for n in range(12))


def test_popular_items_fill_a_filtered_slate(loop: LiveLoop) -> None:
    loop.put_items(*(f"item{n:03}" for n in range(300)), categories=["all"])
    loop.put_items(*(f"rare{n:03}" for n in range(300)), categories=["rare"])
    loop.send_events(*(make_event(user_id=f"u{n}", item_id=f"item{n % 300:03}") for n in range(1200)))
    loop.send_events(*(make_event(user_id=f"v{n}", item_id="rare250") for n in range(2)))
    loop.run_until_idle()

    response = loop.recommend("nobody", k=200, filters={"categories": ["rare"]}, explore=False, log=False)

    assert "rare250" in list_item_ids(response)


@pytest.mark.parametrize(
    ("filters", "detail"),
    [
        ({"min_price": 20, "max_price": 10}, "min_price 20 is above max_price 10"),
        ({"created_after": "yesterday"}, "created_after is 'yesterday'; expected a time"),
        ({"or": [{"attributes": {"size": {"min": 2, "max": 1}}}]}, "min 2 is above max 1"),
        ({"or": [{}] * 101}, "filters has more than 100 conditions"),
    ],
    ids=str,
)
def test_contradictory_filters_are_refused(shop: LiveLoop, filters: dict[str, Any], detail: str) -> None:
    response = shop.http.post("/v1/recommendations", json={"user_id": "u1", "filters": filters})

    assert response.status_code == 422
    assert detail in response.json()["detail"]


def test_requested_fields_are_returned_with_each_item(shop: LiveLoop) -> None:
    items = shop.recommend(candidates=["item03", "unknown item"], fields=["price", "color"], log=False)["items"]

    assert {item["item_id"]: item["fields"] for item in items} == {"item03": {"price": 3.99}, "unknown item": {}}
    assert "fields" not in shop.recommend(log=False)["items"][0]
