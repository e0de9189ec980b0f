"""Catalog over HTTP: pages, changed fields, deletions in lists, stock and times."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from litestar.testing import TestClient

from serving.http.app import create_app
from serving.service import Service
from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids


def list_similar_ids(loop: LiveLoop) -> list[str]:
    return [item["item_id"] for item in loop.http.get("/v1/items/a/similar").json()["items"]]


def test_patch_changes_only_its_fields(loop: LiveLoop) -> None:
    loop.put_items("a", title="Tea", price=2.5, color="green")

    response = loop.http.patch("/v1/items/a", json={"price": 3, "color": None, "size": 5})

    assert response.json() == {"accepted": 1, "refused": [], "status": "accepted"}
    item = loop.http.get("/v1/items/a").json()
    assert {name: item.get(name) for name in ("title", "price", "color", "size")} == {
        "title": "Tea", "price": 3, "color": None, "size": 5,
    }  # fmt: skip


@pytest.mark.parametrize("body", ["[]", "[{}]", "1", '{"price": -1}', '{"item_id": "b"}', '{"stock": -1}'])
def test_invalid_patch_gets_422(loop: LiveLoop, body: str) -> None:
    loop.put_items("a", price=2.5)

    response = loop.http.patch("/v1/items/a", content=body, headers={"content-type": "application/json"})

    assert_problem(response, 422)
    assert loop.http.get("/v1/items/a").json()["price"] == 2.5


def test_patch_of_an_unknown_item_gets_404(shared_loop: LiveLoop) -> None:
    assert_problem(shared_loop.http.patch("/v1/items/unknown", json={"price": 3}), 404)


def test_pages_have_each_item_once(loop: LiveLoop) -> None:
    loop.put_items(*(f"i{n}" for n in range(7)), color="red")
    loop.http.delete("/v1/items/i3")

    pages, token = [], "0"
    while token:
        page = loop.http.get(f"/v1/items?limit=2&page_token={token}").json()
        pages.append([item["item_id"] for item in page["items"]])
        token = page.get("page_token")

    assert pages == [["i0", "i1"], ["i2", "i4"], ["i5", "i6"]]
    assert page["total"] == 6
    assert page["items"][0]["color"] == "red"


def test_lists_delete_items(loop: LiveLoop) -> None:
    loop.put_items("a", "b")

    response = loop.http.post("/v1/items", json=[{"item_id": "a", "deleted": True}, {"item_id": "c", "deleted": False}])

    assert response.json() == {"accepted": 2, "refused": [], "status": "accepted"}
    assert loop.http.get("/v1/items/a").status_code == 404
    assert set(list_item_ids(loop.recommend(log=False))) == {"b", "c"}


@pytest.mark.parametrize("deleted", ["true", 1, "yes", []], ids=repr)
def test_deletion_that_is_not_a_boolean_replaces_nothing(loop: LiveLoop, deleted: object) -> None:
    loop.put_items("a", price=2.5)

    response = loop.http.post("/v1/items", json=[{"item_id": "a", "deleted": deleted}])

    assert response.json()["refused"][0]["reason"].startswith("deleted is ")
    assert_problem(loop.http.post("/v1/items", json={"item_id": "a", "deleted": deleted}), 422)
    assert loop.http.get("/v1/items/a").json()["price"] == 2.5


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_put_and_patch_do_not_delete(loop: LiveLoop, method: str) -> None:
    loop.put_items("a", price=2.5)

    assert_problem(loop.http.request(method, "/v1/items/a", json={"deleted": True}), 422)
    assert loop.http.get("/v1/items/a").json()["price"] == 2.5


def test_processes_of_one_folder_lose_no_change_of_an_item(tmp_path: Path) -> None:
    with LiveLoop(tmp_path) as first:
        first.put_items("a", price=2.5)
        with TestClient(create_app(Service(first.log, first.store, first.settings, first.clock))) as second:
            names = [f"f{n}" for n in range(24)]

            def change(n: int) -> int:
                http = first.http if n % 2 else second
                return http.patch("/v1/items/a", json={names[n]: n}).status_code

            with ThreadPoolExecutor(4) as pool:
                assert set(pool.map(change, range(24))) == {200}
            assert set(names) < set(first.http.get("/v1/items/a").json()) | set(second.get("/v1/items/a").json())
            assert second.put("/v1/items/b", json={}).status_code == 200
            assert first.http.delete("/v1/items/b").status_code == 204
            assert second.patch("/v1/items/b", json={"price": 1}).status_code == 404


def test_items_change_where_the_data_folder_has_no_lock(tmp_path: Path) -> None:
    (tmp_path / "items.lock").mkdir()  # it cannot be opened, like a file on a read-only disk
    with LiveLoop(tmp_path) as loop:
        loop.put_items("a", price=2.5)

        assert loop.http.patch("/v1/items/a", json={"price": 3}).status_code == 200
        assert loop.http.delete("/v1/items/a").status_code == 204


def test_sold_out_items_are_not_recommended(loop: LiveLoop) -> None:
    loop.put_items("a", "b", categories=["x"], stock=2)

    loop.http.patch("/v1/items/b", json={"stock": 0})
    assert list_item_ids(loop.recommend(log=False)) == ["a"]
    assert list_similar_ids(loop) == []
    loop.http.patch("/v1/items/b", json={"stock": 1})
    assert set(list_item_ids(loop.recommend(log=False))) == {"a", "b"}


def test_items_begin_and_expire_at_their_time(loop: LiveLoop) -> None:
    loop.put_items("a", expires_ts=NOW + 2_000)
    loop.put_items("b", available_from=NOW + 1_000)
    loop.put_items("old", expires_ts=NOW)

    slates = []
    for _ in range(3):
        slates.append(sorted(list_item_ids(loop.recommend(log=False))))
        loop.clock.advance(1.0)

    assert slates == [["a"], ["a", "b"], ["b"]]
    loop.restart_serve()
    assert list_item_ids(loop.recommend(log=False)) == ["b"]
