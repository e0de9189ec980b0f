"""The routes: catalogue, people, operations, health, and how each of them refuses."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from online_models.control import (
    CheckpointCommand,
    ExcludeActionsCommand,
    RollbackCommand,
    decode_command,
    encode_command,
)
from online_models.versions import gate
from serving.http.app import create_app
from stream.testing import MemoryStore
from stream.topics import ALARMS, CONTROL, EVENTS, EXAMPLES
from tests.support.serving_loop import ADMIN, NOW, LiveLoop, list_item_ids, make_event, make_impression

JSON = {"content-type": "application/json"}
UNUSUAL_IDS = ["a/b", "a%2Fb", "..", "日本", "a b?c#d", "%", "é" * 128, "similar", "a//b", "/"]


def assert_problem_response(response: httpx.Response, status: int) -> None:
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/problem+json")
    assert response.json()["status"] == status
    assert {"type", "title", "detail"} <= response.json().keys()


def read_metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class TestItems:
    def test_item_is_readable_at_once_with_every_field(self, loop: LiveLoop) -> None:
        item = {"title": "Tea", "price": 2.5, "colour": {"of": ["leaf", 10**25]}}

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
        assert [invalid_item["index"] for invalid_item in response.json()["refused"]] == list(
            range(1, 2 * len(invalid_items), 2)
        )
        assert loop.http.get("/v1/items/x").status_code == 404
        loop.run_until_idle()
        assert len(list_item_ids(loop.recommend())) == len(invalid_items)

    def test_batch_of_1000_items_is_accepted(self, loop: LiveLoop) -> None:
        response = loop.http.post("/v1/items", json=[{"item_id": f"i{n}", "text": "x" * 1024} for n in range(1000)])

        assert response.json() == {"accepted": 1000, "refused": []}
        assert loop.http.get("/readyz").json()["items"] == 1000

    @pytest.mark.parametrize(
        "body",
        ["[]", "1", '{"item_id": "b"}', '{"item_id": 5}', '{"price": -1}', '{"price": NaN}', '{"x": 1e999}',
         '{"x": "\\ud800"}', '{"categories": [1]}', '{"created_ts": 99999999999999999999}', '{"available": "yes"}'],
    )  # fmt: skip
    def test_invalid_item_body_gets_422(self, shared_loop: LiveLoop, body: str) -> None:
        assert_problem_response(shared_loop.http.put("/v1/items/a", content=body, headers=JSON), 422)
        if body != "[]" and "item_id" not in body:
            body = '{"item_id": "a", ' + body[1:] if body[0] == "{" else body
            assert_problem_response(shared_loop.http.post("/v1/items", content=body, headers=JSON), 422)

    def test_malformed_item_body_gets_400_or_415(self, shared_loop: LiveLoop) -> None:
        assert_problem_response(shared_loop.http.put("/v1/items/a", content="{", headers=JSON), 400)
        assert_problem_response(shared_loop.http.post("/v1/items", content="[", headers=JSON), 400)
        assert_problem_response(shared_loop.http.put("/v1/items/a", content="{}"), 415)
        assert_problem_response(shared_loop.http.post("/v1/items", content="[]"), 415)

    def test_deleted_item_gets_404(self, loop: LiveLoop) -> None:
        loop.put_items("a")
        loop.send_events(make_event(item_id="a"))
        loop.run_until_idle()

        assert loop.http.delete("/v1/items/a").status_code == 204
        assert_problem_response(loop.http.get("/v1/items/a"), 404)
        assert_problem_response(loop.http.delete("/v1/items/a"), 404)
        assert_problem_response(loop.http.get("/v1/items/a/similar"), 404)
        loop.run_until_idle()
        loop.restart_serve()
        assert_problem_response(loop.http.get("/v1/items/a"), 404)
        loop.put_items("a")
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 1

    def test_counts_by_event_type_are_exact(self, loop: LiveLoop) -> None:
        loop.put_items("a")
        type_counts = {
            "view": 3,
            "click": 2,
            "like": 1,
            "dislike": 1,
            "cart": 2,
            "purchase": 1,
            "dwell": 2,
            "rating": 1,
        }
        events = [
            make_event(type=event_type, value=1.0) for event_type, count in type_counts.items() for _ in range(count)
        ]
        events += [make_impression(["a", "b"], impression_id=f"r{n}") for n in range(4)]
        loop.send_events(*events)
        loop.send_events(*events)
        loop.run_until_idle()

        assert loop.http.get("/v1/items/a").json()["counts"] == type_counts | {"impression": 4}
        unlisted_item = loop.http.get("/v1/items/b").json()
        assert (unlisted_item["counts"]["impression"], unlisted_item["in_catalog"]) == (4, False)

    @pytest.mark.parametrize("name", UNUSUAL_IDS)
    def test_any_valid_id_works_in_a_path(self, shared_loop: LiveLoop, name: str) -> None:
        path = "/v1/items/" + quote(name, safe="").replace(".", "%2E")

        assert shared_loop.http.put(path, json={"title": name}).status_code == 200
        assert shared_loop.http.get(path).json()["item_id"] == name
        assert shared_loop.http.get(path + "/similar").json() == {"item_id": name, "items": []}
        assert shared_loop.http.delete(path).status_code == 204
        assert_problem_response(shared_loop.http.get(path), 404)

    @pytest.mark.parametrize("path", ["%00", "a%0Ab", "%ED%A0%80", "%FF", "%C3%A9" * 129, "%C2%85"])
    def test_invalid_id_in_a_path_gets_422(self, shared_loop: LiveLoop, path: str) -> None:
        for response in (
            shared_loop.http.get(f"/v1/items/{path}"),
            shared_loop.http.put(f"/v1/items/{path}", json={}),
            shared_loop.http.delete(f"/v1/items/{path}"),
            shared_loop.http.get(f"/v1/items/{path}/similar"),
        ):
            assert_problem_response(response, 422)
            assert response.json()["field"] == "item_id"
        for response in (shared_loop.http.get(f"/v1/users/{path}"), shared_loop.http.delete(f"/v1/users/{path}")):
            assert_problem_response(response, 422)
            assert response.json()["field"] == "user_id"

    def test_similar_items_are_those_with_common_users(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b", "c", "d", "gone")
        for n in range(6):
            loop.send_events(
                *(make_event(user_id=f"u{n}", item_id=item_id, ts=NOW + n) for item_id in ("a", "b", "gone"))
            )
        loop.send_events(make_event(user_id="u9", item_id="c"), make_event(user_id="u9", item_id="d"))
        loop.run_until_idle()
        loop.http.delete("/v1/items/gone")

        items = loop.http.get("/v1/items/a/similar", params={"k": 1}).json()["items"]

        assert [item["item_id"] for item in items] == ["b"]
        assert_problem_response(loop.http.get("/v1/items/a/similar", params={"k": 0}), 422)
        assert_problem_response(loop.http.get("/v1/items/a/similar", params={"k": "x"}), 422)


class TestUsers:
    def test_history_lists_the_last_100_events_oldest_first(self, loop: LiveLoop) -> None:
        event_types = ["click", "like"] * 65 + ["click"] * 120
        events = [
            make_event(event_id=f"n{n}", item_id=f"i{n}", type=event_type, ts=NOW + n)
            for n, event_type in enumerate(event_types)
        ]
        loop.send_events(*events[:130])
        loop.run_until_idle()
        loop.send_events(*events[130:])
        loop.run_until_idle()

        user = loop.http.get("/v1/users/u1").json()

        history = user["history"]
        assert len(history) >= 100
        first = 250 - len(history)
        assert [entry["event_id"] for entry in history] == [f"n{n}" for n in range(first, 250)]
        assert history[-1] == {"item_id": "i249", "type": "click", "ts": NOW + 249, "event_id": "n249"}
        assert (user["counts"]["click"], user["counts"]["like"]) == (65 + 120, 65)

    def test_unknown_user_gets_404(self, shared_loop: LiveLoop) -> None:
        assert_problem_response(shared_loop.http.get("/v1/users/nobody"), 404)

    def test_request_without_an_impression_creates_no_user(self, loop: LiveLoop) -> None:
        loop.recommend("new")
        loop.run_until_idle()

        assert_problem_response(loop.http.get("/v1/users/new"), 404)

    def test_forgotten_user_starts_with_an_empty_history(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b")
        loop.send_events(make_event(item_id="a"), make_event(user_id="u2", item_id="a"))
        loop.run_until_idle()
        with loop.run_stream_worker():
            assert loop.http.delete("/v1/users/u1").status_code == 204
            assert_problem_response(loop.http.get("/v1/users/u1"), 404)
            assert loop.http.delete("/v1/users/never").status_code == 204
        loop.run_until_idle()

        assert set(list_item_ids(loop.recommend("u1", log=False))) == {"a", "b"}
        assert loop.http.get("/v1/users/u2").status_code == 200
        loop.send_events(make_event(item_id="b"))
        loop.run_until_idle()
        user = loop.http.get("/v1/users/u1").json()
        assert [entry["item_id"] for entry in user["history"]] == ["b"]
        assert user["counts"]["click"] == 1

    def test_user_id_may_contain_a_slash(self, loop: LiveLoop) -> None:
        loop.send_events(make_event(user_id="a/b"))
        loop.run_until_idle()

        assert loop.http.get("/v1/users/a%2Fb").json()["user_id"] == "a/b"


def test_lag_falls_to_zero(loop: LiveLoop) -> None:
    loop.send_events(*(make_event() for _ in range(7)), make_event(value=-1.0))

    assert loop.http.get("/v1/lag").json()["events"] == 7
    loop.run_until_idle()
    assert loop.http.get("/v1/lag").json()["events"] == 0
    loop.log.append(EVENTS, 0, [(b"u", b"no event")])
    assert loop.lag == 1
    loop.run_until_idle()
    assert loop.lag == 0


ADMIN_ROUTES = [
    ("GET", "/v1/models"),
    ("POST", "/v1/models/rollback"),
    ("GET", "/v1/alarms"),
    ("GET", "/v1/lineage/000001-000000001"),
]


class TestAdmin:
    @pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
    def test_missing_key_gets_401_and_wrong_key_gets_403(self, shared_loop: LiveLoop, method: str, path: str) -> None:
        for header in ({}, {"Authorization": "Basic a2V5"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}):
            assert_problem_response(shared_loop.http.request(method, path, headers=header), 401)
        for key in ("wrong", "keys", "ké"):
            response = shared_loop.http.request(method, path, headers={b"Authorization": f"Bearer {key}".encode()})
            assert_problem_response(response, 403)

    def test_admin_routes_are_closed_without_a_configured_key(self, tmp_path: Path) -> None:
        with LiveLoop(tmp_path, admin_key="") as loop:
            for method, path in ADMIN_ROUTES:
                assert_problem_response(loop.http.request(method, path), 401)
                assert_problem_response(loop.http.request(method, path, headers=ADMIN), 403)

    def test_models_are_listed_and_rolled_back(self, loop: LiveLoop) -> None:
        versions = [write_checkpoint(loop, f"u{n}") for n in range(3)]

        models = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [model["version"] for model in models] == versions
        keys = {"version", "epoch", "step", "parent", "created", "offsets", "serving", "damaged"}
        assert all(keys <= model.keys() for model in models)
        lineage = loop.http.get(f"/v1/lineage/{versions[2]}", headers=ADMIN).json()
        assert [model["version"] for model in lineage] == versions[::-1]

        response = post_rollback(loop, version=versions[1])
        assert response.status_code == 202
        loop.learn_worker.step(0.0)
        loop.run_until_idle()
        assert loop.recommend(log=False)["model_version"].startswith("000002-")
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 2
        loop.send_events(make_event(user_id="later"))
        loop.run_until_idle()
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 3

    def test_unknown_version_gets_404(self, shared_loop: LiveLoop) -> None:
        for version in ("000009-000000009", "", "..", "../..", "/", "a\nb"):
            assert_problem_response(post_rollback(shared_loop, version=version), 404)
        for path in ("000009-000000009", "%2E%2E", "..%2F..", "x"):
            assert_problem_response(shared_loop.http.get(f"/v1/lineage/{path}", headers=ADMIN), 404)

    def test_damaged_version_gets_409_and_stays_listed(self, loop: LiveLoop) -> None:
        version = write_checkpoint(loop, "u1")
        for file in (loop.settings.checkpoints / version).glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:-1])

        assert_problem_response(post_rollback(loop, version=version), 409)
        models = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [(model["version"], model["damaged"]) for model in models] == [(version, True)]
        assert loop.http.get(f"/v1/lineage/{version}", headers=ADMIN).status_code == 200

    def test_blocked_version_gets_409_and_is_not_served(self, loop: LiveLoop) -> None:
        good, bad = write_checkpoint(loop, "u1"), write_checkpoint(loop, "u2")
        gate.override(loop.settings.checkpoints, bad, "taught by a flood")
        loop.restart_serve()

        models = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [(model["blocked_reason"], model["serving"]) for model in models] == [
            ("", True),
            ("taught by a flood", False),
        ]
        status = loop.http.get("/readyz").json()
        assert (status["model_version"], status["blocked_reason"]) == (good, f"{bad} is refused: taught by a flood")
        assert "headrace_serve_update_blocked 1.0" in loop.http.get("/metrics").text
        assert loop.recommend(log=False)["model_version"] == good
        assert_problem_response(post_rollback(loop, version=bad), 409)

        gate.override(loop.settings.checkpoints, bad, "")
        loop.restart_serve()
        assert loop.http.get("/readyz").json()["model_version"] == bad
        assert "headrace_serve_update_blocked 0.0" in loop.http.get("/metrics").text

    def test_invalid_rollback_request_is_rejected(self, loop: LiveLoop) -> None:
        version = write_checkpoint(loop, "u1")

        for skip in ({"7": [[0, 1]]}, {"0": [[5, 5]]}, {"0": [[-1, 5]]}, {"0": "all"}, [1]):
            assert_problem_response(post_rollback(loop, version=version, skip=skip), 422)
        assert_problem_response(post_rollback(loop), 422)
        assert_problem_response(loop.http.post("/v1/models/rollback", content="{", headers=JSON | ADMIN), 400)
        assert_problem_response(loop.http.post("/v1/models/rollback", content="{}", headers=ADMIN), 415)
        assert len(loop.read_values(CONTROL)) == 1
        assert post_rollback(loop, version=version, skip={"0": [[0, 1]]}).status_code == 202
        assert decode_command(loop.read_values(CONTROL)[-1]) == RollbackCommand(version, {"0": [(0, 1)]})
        assert_problem_response(post_rollback(loop, version=version, slates={"0": [[5, 5]]}), 422)
        assert post_rollback(loop, version=version, slates={"0": [[0, 1]]}).status_code == 202
        assert decode_command(loop.read_values(CONTROL)[-2]) == ExcludeActionsCommand({"0": [(0, 1)]})
        write_checkpoint(loop, "u2")
        loop.log.trim(EXAMPLES, 0, loop.log.end_offset(EXAMPLES, 0))
        assert_problem_response(post_rollback(loop, version=version), 409)

    def test_alarms_are_listed_as_raised(self, loop: LiveLoop) -> None:
        assert loop.http.get("/v1/alarms", headers=ADMIN).json() == []
        alarms = [{"id": f"a{n}", "ts": NOW, "kind": "drift"} for n in range(3)]
        loop.log.append(ALARMS, 0, [(None, msgspec.json.encode(alarm)) for alarm in alarms])

        assert loop.http.get("/v1/alarms", headers=ADMIN).json() == alarms


def write_checkpoint(loop: LiveLoop, user: str) -> str:
    """Send a click, learn it, write a checkpoint; returns its version."""
    loop.send_events(make_event(user_id=user))
    loop.run_until_idle()
    loop.log.append(CONTROL, 0, [(None, encode_command(CheckpointCommand()))])
    loop.learn_worker.step(0.0)
    return f"{loop.learn_worker.progress.epoch:06d}-{loop.learn_worker.progress.step:09d}"


def post_rollback(loop: LiveLoop, **fields: Any) -> httpx.Response:
    return loop.http.post("/v1/models/rollback", json=fields, headers=ADMIN)


class TestHealth:
    def test_service_with_an_empty_log_is_ready(self, loop: LiveLoop) -> None:
        assert loop.http.get("/healthz").status_code == 200
        assert loop.http.get("/readyz").status_code == 200

    def test_metrics_page_is_in_the_prometheus_format(self, shared_loop: LiveLoop) -> None:
        shared_loop.send_events(make_event())
        response = shared_loop.http.get("/metrics")

        assert response.headers["content-type"].startswith("text/plain; version=")
        assert response.headers["content-type"].count("charset") == 1
        for name in (
            "recommendations_total",
            "events_accepted_total",
            "lag_events",
            "model_step",
            "recommendation_duration_seconds_bucket",
        ):
            assert f"headrace_{name}" in response.text

    @pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/v1/recommendations?k=0", 422)])
    def test_http_errors_are_counted_by_status(self, shared_loop: LiveLoop, path: str, status: int) -> None:
        before = read_metric("headrace_http_errors_total", status=str(status))
        shared_loop.http.get(path)

        assert read_metric("headrace_http_errors_total", status=str(status)) == before + 1

    def test_distinct_categories_of_a_slate_are_counted(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b", categories=["tea", "drink"])
        loop.put_items("c", categories=["cups"])
        loop.put_items("d", "e")
        before = read_metric("headrace_slate_categories_total")

        assert len(list_item_ids(loop.recommend(k=5))) == 5
        assert read_metric("headrace_slate_categories_total") == before + 3

    def test_console_is_an_html_page(self, shared_loop: LiveLoop) -> None:
        assert shared_loop.http.get("/").headers["content-type"].startswith("text/html")


class TestErrors:
    @pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/items/a/b", "/v1/users/", "/v1/events/x"])
    def test_unknown_route_gets_404(self, shared_loop: LiveLoop, path: str) -> None:
        assert_problem_response(shared_loop.http.get(path), 404)

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/v1/events"), ("PUT", "/v1/recommendations"), ("POST", "/healthz"), ("PATCH", "/v1/items/a")],
    )
    def test_wrong_method_gets_405_with_an_allow_header(self, shared_loop: LiveLoop, method: str, path: str) -> None:
        response = shared_loop.http.request(method, path)

        assert_problem_response(response, 405)
        assert response.headers["allow"]

    def test_head_and_options_requests_are_answered(self, shared_loop: LiveLoop) -> None:
        assert shared_loop.http.head("/nothing").status_code == 404
        assert shared_loop.http.head("/v1/lag").status_code in (200, 405)
        options = shared_loop.http.options("/v1/events")
        assert options.status_code == 204
        assert "POST" in options.headers["allow"]
        assert_problem_response(shared_loop.http.options("/nothing"), 404)

    def test_internal_error_gets_500_without_a_traceback(self, tmp_path: Path) -> None:
        class BrokenStore(MemoryStore):
            is_broken = False

            def get(self, key: int) -> bytes | None:
                if self.is_broken:
                    raise RuntimeError("secret of the house")
                return super().get(key)

        with LiveLoop(tmp_path, store=(store := BrokenStore())) as loop:
            store.is_broken = True
            response = loop.http.get("/v1/users/u1")

            assert_problem_response(response, 500)
            assert "secret" not in response.text
            assert "Traceback" not in response.text

    def test_unreachable_store_gets_503(self, tmp_path: Path) -> None:
        class UnreachableStore(MemoryStore):
            def get(self, key: int) -> bytes | None:
                raise ConnectionError("no route to the store at 10.0.0.7")

        with LiveLoop(tmp_path, store=UnreachableStore()) as loop:
            response = loop.http.get("/v1/users/u1")

            assert_problem_response(response, 503)
            assert int(response.headers["retry-after"]) >= 1
            assert "10.0.0.7" not in response.text


def test_overload_sheds_requests_and_accepts_events(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, max_queue=2) as loop:
        loop.put_items("a", "b")

    async def send_burst() -> tuple[list[httpx.Response], list[httpx.Response]]:
        app: Any = create_app(loop.service)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            recommendation_posts = [
                client.post("/v1/recommendations", json={"user_id": f"u{n}", "log": False}) for n in range(30)
            ]
            event_posts = [client.post("/v1/events", json=[make_event()]) for _ in range(10)]
            responses = await asyncio.gather(*recommendation_posts, *event_posts)
        return responses[:30], responses[30:]

    loop.start_serve()
    recommendation_responses, event_responses = asyncio.run(send_burst())
    loop.service.writer.close()

    shed_responses = [response for response in recommendation_responses if response.status_code != 200]
    assert 0 < len(shed_responses) < 30
    for response in shed_responses:
        assert_problem_response(response, 503)
        assert response.headers["retry-after"].isdigit()
    assert [response.status_code for response in event_responses] == [202] * 10


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["event_id", "type", "ts", "user_id", "item_id", "items", "propensities", "value", "position", "context",
     "features", "k", "candidates", "exclude", "filters", "explore", "surface", "price", "categories", "created_ts",
     "available"]
)  # fmt: skip
mutated_events = st.builds(lambda fields: make_impression(["a"]) | fields, st.dictionaries(field_names, json_values))
mutated_requests = st.builds(
    lambda fields: {"user_id": "u1"} | fields, st.dictionaries(field_names, json_values, max_size=3)
)
ROUTES = [("POST", "/v1/events"), ("POST", "/v1/recommendations"), ("POST", "/v1/items"), ("PUT", "/v1/items/a")]
fuzz_settings = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@given(
    body=json_values | mutated_events | mutated_requests | st.lists(mutated_events, max_size=3),
    route=st.sampled_from(ROUTES),
)
@fuzz_settings
def test_no_json_body_causes_a_server_error(shared_loop: LiveLoop, body: Any, route: tuple[str, str]) -> None:
    text = json.dumps(body).encode()

    response = shared_loop.http.request(*route, content=text, headers=JSON)

    assert response.status_code in (200, 202, 400, 422)
    if route == ("POST", "/v1/events") and isinstance(body, list):
        assert response.status_code == 202
        assert response.json()["accepted"] + len(response.json()["refused"]) == len(body)


@given(body=st.binary(max_size=60), route=st.sampled_from(ROUTES))
@fuzz_settings
def test_no_byte_sequence_causes_a_server_error(shared_loop: LiveLoop, body: bytes, route: tuple[str, str]) -> None:
    assert shared_loop.http.request(*route, content=body, headers=JSON).status_code in (200, 202, 400, 422)


@given(
    query=st.dictionaries(field_names | st.text(max_size=5), st.text(max_size=10)),
    path=st.text(min_size=1, max_size=30),
)
@fuzz_settings
def test_no_path_or_query_causes_a_server_error(shared_loop: LiveLoop, query: dict[str, str], path: str) -> None:
    try:
        path = quote(path, safe="")
        query = {name: value.encode().decode() for name, value in query.items()}
    except UnicodeEncodeError:
        return
    for response in (
        shared_loop.http.get("/v1/recommendations", params={"user_id": "u1"} | query),
        shared_loop.http.get(f"/v1/items/{path}", params=query),
        shared_loop.http.get(f"/v1/users/{path}/similar"),
        shared_loop.http.get(f"/v1/items/{path}/similar", params=query),
    ):
        assert response.status_code < 500


def test_fuzzed_events_are_learned_without_errors(shared_loop: LiveLoop) -> None:
    shared_loop.run_until_idle()

    assert shared_loop.lag == 0
    shared_loop.recommend("u1")
