"""An anonymous user who joins an account: one history, one count, nothing twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event

ITEMS = tuple("abcdef")
PARTITIONS = 3


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[LiveLoop]:
    with LiveLoop(tmp_path / "shop", partitions=PARTITIONS) as loop:
        loop.put_items(*ITEMS)
        yield loop


@pytest.fixture
def expected(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Description of a shop in which the account has done all itself."""
    with LiveLoop(tmp_path / "expected", partitions=PARTITIONS) as loop:
        loop.put_items(*ITEMS)
        visit(loop, "account", "account")
        yield describe(loop)


def visit(loop: LiveLoop, first: str, second: str) -> None:
    """Two users act in turns: the first one on a, c and d, the second one on b and e."""
    actions = [(first, "a", "click"), (second, "b", "purchase"), (first, "c", "like"), (first, "d", "cart")]
    for n, (user, item, event_type) in enumerate([*actions, (second, "e", "click")]):
        loop.send_events(make_event(event_id=item, user_id=user, item_id=item, type=event_type, ts=NOW - 9 + n))
        loop.run_until_idle()


def describe(loop: LiveLoop) -> dict[str, Any]:
    user = loop.http.get("/v1/users/account").json()
    similar = {item: loop.http.get(f"/v1/items/{item}/similar").json()["items"] for item in ITEMS}
    scores = {
        (item, neighbor["item_id"]): pytest.approx(neighbor["score"], abs=1e-4)
        for item, neighbors in similar.items()
        for neighbor in neighbors
        if neighbor["score"] > 1e-3
    }
    return {
        "history": user["history"],
        "counts": {name: count for name, count in user["counts"].items() if count},
        "session": user["session"],
        "items": {item: loop.http.get(f"/v1/items/{item}").json()["counts"] for item in ITEMS},
        "similar": scores,
        "slate": set(list_item_ids(loop.recommend("account", explore=False, log=False))),
    }


def merge(loop: LiveLoop, anonymous: str, is_event: bool) -> None:
    if is_event:
        loop.send_events(make_event(type="alias", user_id="account", anonymous_id=anonymous, item_id=None))
    else:
        response = loop.http.post(f"/v1/users/{anonymous}/merge", json={"into": "account"})
        assert response.json() == {"user_id": "account", "anonymous_id": anonymous, "status": "accepted"}
    loop.run_until_idle()


@pytest.mark.parametrize("is_event", [False, True], ids=["route", "alias event"])
@pytest.mark.parametrize("users", [("cookie-77", "account"), ("account", "session:s1")])
def test_merged_user_is_one_user(
    shop: LiveLoop, expected: dict[str, Any], users: tuple[str, str], is_event: bool
) -> None:
    visit(shop, *users)
    assert describe(shop) != expected
    (anonymous,) = set(users) - {"account"}
    for _ in range(2):
        merge(shop, anonymous, is_event)

        assert describe(shop) == expected
        assert_problem(shop.http.get(f"/v1/users/{anonymous}"), 404)


def test_events_after_a_merge_join_with_the_next_one(shop: LiveLoop) -> None:
    shop.send_events(make_event(user_id="cookie", item_id="a", ts=NOW - 3))
    merge(shop, "cookie", False)
    shop.send_events(make_event(user_id="cookie", item_id="b", ts=NOW - 2))
    merge(shop, "cookie", False)

    user = shop.http.get("/v1/users/account").json()
    assert [entry["item_id"] for entry in user["history"]] == ["a", "b"]
    assert user["counts"]["click"] == 2


def test_long_histories_keep_the_latest_actions(shop: LiveLoop) -> None:
    for user, shift in (("cookie", 0), ("account", 1)):
        shop.send_events(
            *(make_event(event_id=f"{user}{n}", user_id=user, item_id=f"{n % 90}", ts=NOW - 999 + 2 * n + shift)
              for n in range(120))
        )  # fmt: skip
    shop.run_until_idle()
    merge(shop, "cookie", True)

    user = shop.http.get("/v1/users/account").json()
    latest = [f"{name}{n}" for n in range(120) for name in ("cookie", "account")][-100:]
    assert [entry["event_id"] for entry in user["history"]] == latest
    assert user["counts"]["click"] == 240


@pytest.mark.parametrize(
    ("path", "body"),
    [("u1", {"into": "u1"}), ("u1", {"into": ""}), ("u1", {}), ("u1", {"into": "u2", "from": "u3"}), ("u1", [])],
)
def test_invalid_merge_gets_422(shared_loop: LiveLoop, path: str, body: Any) -> None:
    assert_problem(shared_loop.http.post(f"/v1/users/{path}/merge", json=body), 422)


def test_alias_without_an_anonymous_user_is_refused(shared_loop: LiveLoop) -> None:
    alias = make_event(type="alias", item_id=None)
    (first, second) = shared_loop.send_events(alias, alias | {"event_id": "x", "anonymous_id": "u1"})["refused"]

    assert "anonymous_id" in first["reason"]
    assert "expected another user" in second["reason"]
