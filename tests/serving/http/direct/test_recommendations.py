"""Requests that are answered before the web framework get the responses of the framework."""

import asyncio
import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.http.access import AccessKeys
from serving.http.app import create_app
from serving.http.direct.recommendations import DirectPath
from tests.support.faults import UnreachableStore
from tests.support.serving_loop import JSON, NOW, LiveLoop, assert_problem

FRAMEWORK = {"origin": "https://shop.example"}  # a request of another origin is left to the framework
KEY = {"authorization": "Bearer rec"}
FIXED = b'"user_id":"u1","explore":false,"log":false'


@pytest.fixture(scope="module")
def closed_loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """A loop with items and a key for recommendations."""
    with LiveLoop(tmp_path_factory.mktemp("closed"), recommend_key="rec") as loop:
        response = loop.http.post("/v1/items", json=[{"item_id": item} for item in "abc"])
        assert response.json()["accepted"] == 3
        yield loop


def make_scope(headers: dict[str, str], path: str = "/v1/recommendations", **fields: Any) -> dict[str, Any]:
    encoded_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"method": "POST", "raw_path": path.encode(), "query_string": b"", "headers": encoded_headers} | fields


def read_response(response: httpx.Response) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and body, without the id of the impression."""
    body = response.json()
    body.pop("impression_id", None)
    return response.status_code, dict(response.headers), body


@pytest.mark.parametrize(
    "body",
    [
        b"{%s}" % FIXED,
        b'{%s,"k":2,"fields":["title"],"explain":true}' % FIXED,
        b'{%s,"exclude":["a","b","c"]}' % FIXED,
        b'{%s,"k":0}' % FIXED,
        b'{%s,"userid":"u1"}' % FIXED,
        b'{"user_id":"u1","ts":1}',
        b'{"user_id":"u1"',
        b'{"user_id":"\xff"}',
        b"",
    ],
)
@pytest.mark.parametrize("headers", [KEY, {}, {"authorization": "Bearer wrong"}], ids=["key", "no key", "wrong key"])
def test_response_equals_that_of_the_framework(closed_loop: LiveLoop, headers: dict[str, str], body: bytes) -> None:
    direct, framework = (
        closed_loop.http.post("/v1/recommendations", content=body, headers=JSON | {"X-Request-Id": "r1"} | extra)
        for extra in (headers, headers | FRAMEWORK)
    )

    assert read_response(direct) == read_response(framework)


@pytest.mark.parametrize(
    ("scope", "is_accepted"),
    [
        (make_scope(JSON | KEY), True),
        (make_scope(JSON), False),
        (make_scope(KEY), False),
        (make_scope(JSON | KEY | FRAMEWORK), False),
        (make_scope(JSON | KEY | {"content-encoding": "gzip"}), False),
        (make_scope(JSON | KEY, query_string=b"k=5"), False),
        (make_scope(JSON | KEY, method="GET"), False),
        (make_scope(JSON | KEY, path="/v1/%72ecommendations"), False),
    ],
    ids=["plain", "no key", "no type", "other origin", "gzip", "query", "GET", "encoded path"],
)
def test_only_plain_requests_are_answered_directly(
    closed_loop: LiveLoop, scope: dict[str, Any], is_accepted: bool
) -> None:
    direct_path = DirectPath(closed_loop.service, AccessKeys(closed_loop.settings.serve))

    assert direct_path.accepts(scope) == is_accepted


def test_other_bodies_are_answered_by_the_framework(closed_loop: LiveLoop) -> None:
    body = b"{%s}" % FIXED
    chunks = iter([body[:9], body[9:]])
    responses = [
        closed_loop.http.post("/v1/recommendations", content=body, headers=JSON | KEY),
        closed_loop.http.post("/v1/recommendations", content=chunks, headers=JSON | KEY),
        closed_loop.http.post(
            "/v1/recommendations", content=gzip.compress(body), headers=JSON | KEY | {"content-encoding": "gzip"}
        ),
    ]

    assert [len(response.json()["items"]) for response in responses] == [3, 3, 3]


@pytest.mark.parametrize("extra_headers", [{}, FRAMEWORK], ids=["direct", "framework"])
def test_failure_is_logged_with_its_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, extra_headers: dict[str, str]
) -> None:
    store = UnreachableStore(RuntimeError("broken"), is_reachable=True)
    headers = {"X-Request-Id": "trace-1"} | extra_headers
    with LiveLoop(tmp_path, store=store) as loop, caplog.at_level(logging.ERROR):
        store.is_reachable = False
        response = loop.http.post("/v1/recommendations", json={"user_id": "secret-person"}, headers=headers)

    assert_problem(response, 500)
    assert response.json()["request_id"] == response.headers["x-request-id"] == "trace-1"
    messages = [record.getMessage() for record in caplog.records if "trace-1" in record.getMessage()]
    assert messages == ["POST /v1/recommendations, request trace-1 failed"]


@pytest.mark.parametrize("extra_headers", [{}, FRAMEWORK], ids=["direct", "framework"])
def test_excess_requests_get_a_problem_document(tmp_path: Path, extra_headers: dict[str, str]) -> None:
    async def send_burst(loop: LiveLoop) -> list[httpx.Response]:
        app: Any = create_app(loop.service)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            body, headers = {"user_id": "u1", "ts": NOW}, {"X-Request-Id": "r1"} | extra_headers
            posts = [client.post("/v1/recommendations", json=body, headers=headers) for _ in range(3)]
            return await asyncio.gather(*posts)

    with LiveLoop(tmp_path, max_queue=1) as loop:
        responses = loop.http.blocking_portal.call(send_burst, loop)

    accepted, *shed = sorted(responses, key=lambda response: response.status_code)
    assert accepted.status_code == 200
    for response in shed:
        assert_problem(response, 503)
        assert response.headers["retry-after"] == "1"
        assert response.json()["request_id"] == "r1"
