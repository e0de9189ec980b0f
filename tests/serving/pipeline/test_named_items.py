"""Items that only events name are recommended, unless the catalog says otherwise."""

import pytest

from tests.support.serving_loop import (
    NOW,
    LiveLoop,
    assert_problem,
    list_item_ids,
    make_event,
    make_impression,
)

NAMES = ["i0", "i1", "日本", "a/b", "x" * 256]


def click_items(loop: LiveLoop, names: list[str] = NAMES, users: int = 4) -> None:
    """Let users click the first of the items more often than the last."""
    for u in range(users):
        loop.send_events(*(make_event(user_id=f"u{u}", item_id=name, ts=NOW + u) for name in names[: len(names) - u]))
    loop.run_until_idle()


def test_known_and_unknown_users_get_named_items(loop: LiveLoop) -> None:
    click_items(loop)

    assert set(list_item_ids(loop.recommend("nobody", log=False))) == set(NAMES)
    assert set(list_item_ids(loop.recommend("u2", log=False))) == {NAMES[3], NAMES[4]}
    assert set(list_item_ids(loop.recommend("u2", repeats=True, log=False))) == set(NAMES)


def list_channel(loop: LiveLoop, channel: str) -> set[str]:
    """Items of a stranger's slate that a channel found."""
    items = loop.recommend("nobody", k=1000, explain=True, log=False)["items"]
    return {item["item_id"] for item in items if channel in item["channels"]}


@pytest.mark.parametrize("channel", ["popular", "trending", "newest", "fresh"])
def test_channels_offer_named_items(loop: LiveLoop, channel: str) -> None:
    click_items(loop)

    assert list_channel(loop, channel) == set(NAMES)


def test_items_of_foreign_slates_are_recommended(loop: LiveLoop) -> None:
    loop.send_events(make_impression(["a", "b", "c"]))
    loop.run_until_idle()

    assert set(list_item_ids(loop.recommend("nobody", log=False))) == {"a", "b", "c"}


def test_named_item_has_counts_and_similar_items(loop: LiveLoop) -> None:
    click_items(loop)
    item = loop.http.get("/v1/items/i0").json()
    similar = loop.http.get("/v1/items/i0/similar").json()

    assert (item["item_id"], item["in_catalog"], item["counts"]["click"]) == ("i0", False, 4)
    assert {neighbor["item_id"] for neighbor in similar["items"]} <= set(NAMES) - {"i0"}
    assert similar["items"]
    assert_problem(loop.http.get("/v1/items/unknown/similar"), 404)
    assert_problem(loop.http.get("/v1/items/unknown"), 404)


def test_catalog_hides_and_returns_a_named_item(loop: LiveLoop) -> None:
    click_items(loop)

    assert loop.http.delete("/v1/items/i0").status_code == 204
    assert "i0" not in list_item_ids(loop.recommend("nobody", log=False))
    assert_problem(loop.http.delete("/v1/items/i0"), 404)
    loop.send_events(make_event(user_id="u9", item_id="i0"))
    loop.run_until_idle()
    loop.restart_serve()
    assert "i0" not in list_item_ids(loop.recommend("nobody", log=False))
    loop.http.put("/v1/items/i0", json={"available": False})
    assert "i0" not in list_item_ids(loop.recommend("nobody", log=False))
    loop.http.put("/v1/items/i0", json={})
    assert "i0" in list_item_ids(loop.recommend("nobody", log=False))


def test_restarted_serve_knows_the_ids(loop: LiveLoop) -> None:
    click_items(loop)
    live = list_item_ids(loop.recommend("nobody", explore=False, log=False))
    loop.learn_worker.save()
    loop.learn_worker.wait_for_checkpoint()
    loop.restart_serve()

    assert list_item_ids(loop.recommend("nobody", explore=False, log=False)) == live


def test_invented_ids_do_not_displace_new_items(loop: LiveLoop) -> None:
    click_items(loop)
    for n in range(6):
        loop.send_events(*(make_event(user_id=f"bot{n}", item_id=f"fake{n}-{i}", ts=NOW + 10) for i in range(200)))
    loop.run_until_idle()
    loop.http.put("/v1/items/real", json={})

    assert "real" in list_channel(loop, "fresh")
    assert set(NAMES[:4]) <= list_channel(loop, "popular")
    assert len(list_channel(loop, "newest") & set(NAMES)) == len(NAMES)


def test_own_actions_count_before_they_are_processed(loop: LiveLoop) -> None:
    loop.http.post("/v1/items", json=[{"item_id": name} for name in ("a", "b", "c")])
    loop.send_events(make_event(item_id="a"))
    at_once = list_item_ids(loop.recommend("u1", log=False))
    others = list_item_ids(loop.recommend("u2", log=False))
    loop.run_until_idle()

    assert sorted(at_once) == sorted(list_item_ids(loop.recommend("u1", log=False))) == ["b", "c"]
    assert sorted(others) == ["a", "b", "c"]


def test_new_items_are_in_the_next_answers(loop: LiveLoop) -> None:
    loop.put_items("old", categories=["tea"], price=5.0)
    loop.http.post("/v1/items", json=[{"item_id": "a", "categories": ["tea"], "price": 9.0}, {"item_id": "b"}])
    filtered = loop.recommend("u1", filters={"categories": ["tea"], "min_price": 8}, log=False)

    assert set(list_item_ids(loop.recommend("u1", log=False))) == {"old", "a", "b"}
    assert list_item_ids(filtered) == ["a"]
    assert [item["item_id"] for item in loop.http.get("/v1/items/a/similar").json()["items"]] == ["old"]
    loop.http.put("/v1/items/old", json={"categories": ["tea"], "price": 20.0})
    assert set(list_item_ids(loop.recommend("u1", filters={"min_price": 8}, log=False))) == {"old", "a"}


@pytest.mark.parametrize("n_items", [1, 700])
def test_items_put_one_by_one_and_in_bulk_are_answered(loop: LiveLoop, n_items: int) -> None:
    names = [f"n{n}" for n in range(n_items)]
    response = loop.http.post("/v1/items", json=[{"item_id": name} for name in names])

    assert response.json()["accepted"] == n_items
    assert set(list_item_ids(loop.recommend("u1", k=1000, log=False))) == set(names)
    loop.run_until_idle()
    assert set(list_item_ids(loop.recommend("u1", k=1000, log=False))) == set(names)
