"""Pages without repeats, baskets, and variants of one article."""

from typing import Any

import pytest

from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event

QUIET: dict[str, Any] = {"explore": False, "log": False}


@pytest.fixture(scope="module")
def shop(shared_loop: LiveLoop) -> LiveLoop:
    """Five articles in four sizes; the first size of the first three is often bought with a bag."""
    for n in range(5):
        shared_loop.put_items(*(f"shirt{n}-{size}" for size in "SMLX"), group_id=f"shirt{n}", categories=["shirts"])
    shared_loop.put_items("bag0", "bag1", "bag2", *(f"x{n}" for n in range(8)), categories=["other"])
    for n in range(60):
        items = (f"shirt{n % 3}-S", f"bag{n % 3}")
        shared_loop.send_events(
            *(
                make_event(user_id=f"p{n}", item_id=item, type="purchase", value=1.0, ts=NOW - 60_000 * (60 - n) + i)
                for i, item in enumerate(items)
            )
        )
    shared_loop.run_until_idle()
    return shared_loop


def test_pages_show_each_item_once_while_the_model_changes(shop: LiveLoop) -> None:
    shown: list[str] = []
    response = shop.recommend("reader", k=4)
    while "page_token" in response:
        shown += list_item_ids(response)
        shop.send_events(make_event(user_id="other", item_id=shown[-1]))
        shop.run_until_idle()
        response = shop.recommend("reader", k=4, page_token=response["page_token"])
    shown += list_item_ids(response)

    assert len(shown) == len(set(shown)) == 16


def test_last_page_says_that_there_are_no_more_items(shop: LiveLoop) -> None:
    first = shop.recommend("nobody", candidates=["bag0", "bag1"], **QUIET)
    last = shop.recommend("nobody", candidates=["bag0", "bag1"], page_token=first["page_token"], **QUIET)

    assert last["items"] == []
    assert "page_token" not in last
    assert last["reason"]


@pytest.mark.parametrize("token", ["x", "AAAA", "é", "AAAAAAAAAAAAAAAA"])
def test_invalid_page_token_is_refused(shop: LiveLoop, token: str) -> None:
    response = shop.http.post("/v1/recommendations", json={"user_id": "u", "page_token": token})

    assert_problem(response, 422)
    assert "page_token" in response.json()["detail"]


def test_basket_gets_what_goes_with_it(shop: LiveLoop) -> None:
    for n in range(3):
        ids = list_item_ids(shop.recommend("guest", k=3, items=[f"shirt{n}-S"], **QUIET))
        assert f"bag{n}" in ids
        assert f"shirt{n}-S" not in ids


def test_slate_has_one_variant_of_each_article(shop: LiveLoop) -> None:
    response = shop.recommend("nobody", k=30, **QUIET)

    shirts = [item_id.partition("-")[0] for item_id in list_item_ids(response) if item_id.startswith("shirt")]
    assert sorted(shirts) == [f"shirt{n}" for n in range(5)]


def test_variants_of_a_bought_item_are_hidden(shop: LiveLoop) -> None:
    ids = list_item_ids(shop.recommend("p0", k=30, **QUIET))

    assert not [item_id for item_id in ids if item_id.startswith("shirt0")]
    assert [item_id for item_id in ids if item_id.startswith("shirt1")]
    assert len(list_item_ids(shop.recommend("p0", k=30, rules={"caps": {"group_id": 9}}, **QUIET))) > len(ids)
