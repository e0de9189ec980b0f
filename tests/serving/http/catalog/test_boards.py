"""Popular, trending, newest and similar items, with filters and excluded items."""

import json
from typing import Any

import pytest

from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event

HOUR_MS = 3_600_000


@pytest.fixture
def shop(loop: LiveLoop) -> LiveLoop:
    """Six items of two colors; b has the most clicks and f the latest ones."""
    for n, item_id in enumerate("abcdef"):
        color = "red" if n % 2 else "blue"
        loop.put_items(item_id, categories=["all"], color=color, created_ts=NOW - n * HOUR_MS)
    clicks = {"b": 5, "c": 3, "d": 1}
    loop.send_events(
        *(make_event(user_id=f"u{i}{item_id}", item_id=item_id, ts=NOW - 5 * HOUR_MS) for item_id in clicks for i in
          range(clicks[item_id])),
        *(make_event(user_id=f"v{i}", item_id="f", ts=NOW) for i in range(2)),
    )  # fmt: skip
    loop.run_until_idle()
    return loop


def list_board(loop: LiveLoop, path: str, **query: Any) -> list[str]:
    params: dict[str, Any] = {name: json.dumps(value) if name == "filters" else value for name, value in query.items()}
    response = loop.http.get(path, params=params)
    assert response.status_code == 200, response.text
    return list_item_ids(response.json())


@pytest.mark.parametrize(("board", "first"), [("popular", "b"), ("trending", "f"), ("newest", "a")])
def test_board_lists_each_item_once_best_first(shop: LiveLoop, board: str, first: str) -> None:
    items = list_board(shop, f"/v1/{board}")

    assert items[0] == first
    assert sorted(items) == list("abcdef")


@pytest.mark.parametrize("path", ["/v1/popular", "/v1/trending", "/v1/newest", "/v1/items/a/similar"])
def test_filters_and_exclude_hold(shop: LiveLoop, path: str) -> None:
    items = list_board(shop, path, filters={"attributes": {"color": "red"}}, exclude=["b"])

    assert sorted(items) == ["d", "f"]
    assert len(list_board(shop, path, k=2)) == 2


@pytest.mark.parametrize("path", ["/v1/popular", "/v1/trending", "/v1/newest", "/v1/items/a/similar"])
def test_filters_that_leave_nothing_give_a_reason(shop: LiveLoop, path: str) -> None:
    response = shop.http.get(path, params={"filters": '{"min_price": 5}'})

    assert response.json()["items"] == []
    assert "filters" in response.json()["reason"]
    assert_problem(shop.http.get(path, params={"filters": '{"min": 5}'}), 422)
