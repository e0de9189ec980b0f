"""Routes of the catalog: write, read, delete, counts, similar items."""

from urllib.parse import quote

import pytest

from tests.support.serving_loop import JSON, NOW, LiveLoop, assert_problem, list_item_ids, make_event, make_impression

UNUSUAL_IDS = ["a/b", "a%2Fb", "..", "日本", "a b?c#d", "%", "é" * 128, "similar", "a//b", "/"]


class TestItems:
    def test_item_is_readable_at_once_with_every_field(self, loop: LiveLoop) -> None:
        item = {"title": "Tea", "price": 2.5, "color": {"tones": ["leaf", 10**25]}}

        assert loop.http.put("/v1/items/a", json=item).status_code == 200
        assert loop.http.get("/v1/items/a").json().items() >= ({"item_id": "a"} | item).items()
        assert loop.http.put("/v1/items/a", json={"item_id": "a"}).status_code == 200
        assert "title" not in loop.http.get("/v1/items/a").json()

    def test_invalid_items_leave_their_neighbors_alone(self, loop: LiveLoop) -> None:
        invalid_items = [{}, 1, {"item_id": ""}, {"item_id": "x", "price": -1}, {"item_id": "x", "created_ts": 1 << 60}]
        mixed = [item for n, invalid_item in enumerate(invalid_items) for item in ({"item_id": f"i{n}"}, invalid_item)]

        response = loop.http.post("/v1/items", json=mixed)

        assert response.status_code == 202
        assert response.json()["accepted"] == len(invalid_items)
        indices = [refused["index"] for refused in response.json()["refused"]]
        assert indices == list(range(1, 2 * len(invalid_items), 2))
        assert loop.http.get("/v1/items/x").status_code == 404
        loop.run_until_idle()
        assert len(list_item_ids(loop.recommend())) == len(invalid_items)

    def test_batch_of_1000_items_is_accepted(self, loop: LiveLoop) -> None:
        response = loop.http.post("/v1/items", json=[{"item_id": f"i{n}", "text": "x" * 1024} for n in range(1000)])

        assert response.json() == {"accepted": 1000, "refused": [], "status": "accepted"}
        assert loop.http.get("/readyz").json()["items"] == 1000

    @pytest.mark.parametrize(
        "body",
        ["[]", "1", '{"item_id": "b"}', '{"item_id": 5}', '{"price": -1}', '{"price": NaN}', '{"x": 1e999}',
         '{"x": "\\ud800"}', '{"categories": [1]}', '{"created_ts": 99999999999999999999}', '{"available": "yes"}'],
    )  # fmt: skip
    def test_invalid_item_body_gets_422(self, shared_loop: LiveLoop, body: str) -> None:
        assert_problem(shared_loop.http.put("/v1/items/a", content=body, headers=JSON), 422)
        if body != "[]" and "item_id" not in body:
            body = '{"item_id": "a", ' + body[1:] if body[0] == "{" else body
            assert_problem(shared_loop.http.post("/v1/items", content=body, headers=JSON), 422)

    def test_malformed_item_body_gets_400_or_415(self, shared_loop: LiveLoop) -> None:
        assert_problem(shared_loop.http.put("/v1/items/a", content="{", headers=JSON), 400)
        assert_problem(shared_loop.http.post("/v1/items", content="[", headers=JSON), 400)
        assert_problem(shared_loop.http.put("/v1/items/a", content="{}"), 415)
        assert_problem(shared_loop.http.post("/v1/items", content="[]"), 415)

    def test_deleted_item_gets_404(self, loop: LiveLoop) -> None:
        loop.put_items("a")
        loop.send_events(make_event(item_id="a"))
        loop.run_until_idle()

        assert loop.http.delete("/v1/items/a").status_code == 204
        assert_problem(loop.http.get("/v1/items/a"), 404)
        assert_problem(loop.http.delete("/v1/items/a"), 404)
        assert_problem(loop.http.get("/v1/items/a/similar"), 404)
        loop.run_until_idle()
        loop.restart_serve()
        assert_problem(loop.http.get("/v1/items/a"), 404)
        loop.put_items("a")
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 1

    def test_counts_by_event_type_are_exact(self, loop: LiveLoop) -> None:
        loop.put_items("a")
        counts = {"view": 3, "click": 2, "like": 1, "dislike": 1, "cart": 2, "purchase": 1, "dwell": 2, "rating": 1}
        event_types = [event_type for event_type, count in counts.items() for _ in range(count)]
        events = [make_event(type=event_type, value=1.0) for event_type in event_types]
        events += [make_impression(["a", "b"], impression_id=f"r{n}") for n in range(4)]
        loop.send_events(*events)
        loop.send_events(*events)
        loop.run_until_idle()

        assert loop.http.get("/v1/items/a").json()["counts"] == counts | {"impression": 4}
        unlisted_item = loop.http.get("/v1/items/b").json()
        assert (unlisted_item["counts"]["impression"], unlisted_item["in_catalog"]) == (4, False)

    @pytest.mark.parametrize("name", UNUSUAL_IDS)
    def test_any_valid_id_works_in_a_path(self, shared_loop: LiveLoop, name: str) -> None:
        path = "/v1/items/" + quote(name, safe="").replace(".", "%2E")

        assert shared_loop.http.put(path, json={"title": name}).status_code == 200
        assert shared_loop.http.get(path).json()["item_id"] == name
        assert shared_loop.http.get(path + "/similar").json()["item_id"] == name
        assert shared_loop.http.delete(path).status_code == 204
        assert_problem(shared_loop.http.get(path), 404)

    @pytest.mark.parametrize("path", ["%00", "a%0Ab", "%ED%A0%80", "%FF", "%C3%A9" * 129, "%C2%85"])
    def test_invalid_id_in_a_path_gets_422(self, shared_loop: LiveLoop, path: str) -> None:
        for response in (
            shared_loop.http.get(f"/v1/items/{path}"),
            shared_loop.http.put(f"/v1/items/{path}", json={}),
            shared_loop.http.delete(f"/v1/items/{path}"),
            shared_loop.http.get(f"/v1/items/{path}/similar"),
        ):
            assert_problem(response, 422)
            assert response.json()["field"] == "item_id"
        for response in (shared_loop.http.get(f"/v1/users/{path}"), shared_loop.http.delete(f"/v1/users/{path}")):
            assert_problem(response, 422)
            assert response.json()["field"] == "user_id"

    def test_similar_items_are_those_with_common_users(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b", "c", "d", "gone")
        for n in range(6):
            users_events = (make_event(user_id=f"u{n}", item_id=item_id, ts=NOW + n) for item_id in ("a", "b", "gone"))
            loop.send_events(*users_events)
        loop.send_events(make_event(user_id="u9", item_id="c"), make_event(user_id="u9", item_id="d"))
        loop.run_until_idle()
        loop.http.delete("/v1/items/gone")

        items = loop.http.get("/v1/items/a/similar", params={"k": 1}).json()["items"]

        assert [item["item_id"] for item in items] == ["b"]
        assert 0 < items[0]["score"] < 1
        assert_problem(loop.http.get("/v1/items/a/similar", params={"k": 0}), 422)
        assert_problem(loop.http.get("/v1/items/a/similar", params={"k": "x"}), 422)

    def test_score_of_similar_items_is_their_share_of_co_visits(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b", "c")
        for n, item_id in enumerate(["b"] * 6 + ["c"] * 3):
            loop.send_events(
                make_event(user_id=f"u{n}", item_id="a", ts=NOW), make_event(user_id=f"u{n}", item_id=item_id)
            )
        loop.run_until_idle()

        items = loop.http.get("/v1/items/a/similar").json()["items"]

        assert [item["item_id"] for item in items] == ["b", "c"]
        assert [item["score"] for item in items] == pytest.approx([6 / 12, 3 / 12], abs=1e-5)  # 9 pairs, 3 of the prior

    def test_score_of_new_similar_items_is_that_of_their_content(self, loop: LiveLoop) -> None:
        loop.put_items("a", categories=["tea", "green"], price=9.0)
        loop.put_items("same", categories=["tea", "green"], price=9.0)
        loop.put_items("dear", categories=["tea", "green"], price=19.0)
        loop.put_items("half", categories=["tea"], price=9.0)
        loop.put_items("other", categories=["cups"])

        items = loop.http.get("/v1/items/a/similar").json()["items"]

        scores = {item["item_id"]: item["score"] for item in items}
        assert scores == pytest.approx({"same": 1.0, "dear": 0.5, "half": 0.5}, abs=1e-5)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ('"price": NaN', "'price' holds a number that is not finite"),
            ('"price": -Infinity', "'price' holds a number that is not finite"),
            ('"weight": 1e999', "'weight' holds a number that is not finite"),
            ('"price": 1e308', "price of item x is 1e+308; expected 0 to 1e+12"),
            ('"price": -1', "price of item x is -1.0; expected 0 to 1e+12"),
            ('"title": "\\ud800"', "'title' holds a lone surrogate"),
        ],
    )
    def test_error_of_an_item_names_the_value(self, shared_loop: LiveLoop, fields: str, message: str) -> None:
        body = f'{{"item_id": "x", {fields}}}'
        put = shared_loop.http.put("/v1/items/x", content=body, headers=JSON)
        post = shared_loop.http.post("/v1/items", content=f"[{body}]", headers=JSON)

        assert message in put.json()["detail"]
        assert message in post.json()["refused"][0]["reason"]
