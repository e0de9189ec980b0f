"""Error responses: unknown routes, wrong methods, internal errors, overload."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.http.app import create_app
from tests.support.faults import UnreachableStore
from tests.support.serving_loop import LiveLoop, assert_problem, make_event


class TestErrors:
    @pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/items/a/b", "/v1/users/", "/v1/events/x/y"])
    def test_unknown_route_gets_404(self, shared_loop: LiveLoop, path: str) -> None:
        assert_problem(shared_loop.http.get(path), 404)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/events"),
            ("GET", "/v1/events/x"),
            ("PUT", "/v1/recommendations"),
            ("POST", "/healthz"),
            ("POST", "/v1/items/a"),
        ],
    )
    def test_wrong_method_gets_405_with_an_allow_header(self, shared_loop: LiveLoop, method: str, path: str) -> None:
        response = shared_loop.http.request(method, path)

        assert_problem(response, 405)
        assert response.headers["allow"]

    def test_head_and_options_requests_are_answered(self, shared_loop: LiveLoop) -> None:
        assert shared_loop.http.head("/nothing").status_code == 404
        options = shared_loop.http.options("/v1/events")
        assert options.status_code == 204
        assert "POST" in options.headers["allow"]
        assert_problem(shared_loop.http.options("/nothing"), 404)

    def test_internal_error_gets_500_without_a_traceback(self, tmp_path: Path) -> None:
        store = UnreachableStore(RuntimeError("secret detail"), is_reachable=True)
        with LiveLoop(tmp_path, store=store) as loop:
            store.is_reachable = False
            response = loop.http.get("/v1/users/u1")

            assert_problem(response, 500)
            assert "secret" not in response.text
            assert "Traceback" not in response.text

    def test_unreachable_store_gets_503(self, tmp_path: Path) -> None:
        with LiveLoop(tmp_path, store=UnreachableStore()) as loop:
            response = loop.http.get("/v1/users/u1")

            assert_problem(response, 503)
            assert int(response.headers["retry-after"]) >= 1
            assert "10.0.0.7" not in response.text

    def test_outage_is_logged_at_its_start_and_its_end(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        store = UnreachableStore(is_reachable=True)
        with LiveLoop(tmp_path, store=store) as loop, caplog.at_level(logging.INFO):
            for _ in range(2):
                store.is_reachable = False
                statuses = [loop.http.get(f"/v1/users/u{n}").status_code for n in range(5)]
                loop.service.stored_users.measure()
                store.is_reachable = True
                loop.service.stored_users.measure()
        lines = [text for record in caplog.records if "request" in (text := record.getMessage())]

        assert statuses == [503] * 5
        assert [("10.0.0.7" in line, "again" in line) for line in lines] == [(True, False), (False, True)] * 2


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
        assert_problem(response, 503)
        assert response.headers["retry-after"].isdigit()
    assert [response.status_code for response in event_responses] == [202] * 10
