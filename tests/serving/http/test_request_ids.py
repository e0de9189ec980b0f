"""Each response has the id of its request; error documents and log lines have it as well."""

import logging
import re
from pathlib import Path

import pytest

from tests.support.faults import UnreachableStore
from tests.support.serving_loop import LiveLoop, assert_problem


@pytest.mark.parametrize("request_id", ["9f2c", "a" * 128, "01H.x:y/z+w=@-_"])
def test_request_id_is_returned(shared_loop: LiveLoop, request_id: str) -> None:
    for path in ("/healthz", "/v1/lag", "/nothing", "/", "/docs"):
        response = shared_loop.http.get(path, headers={"X-Request-Id": request_id})

        assert response.headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "a" * 129, 'x"y', "<script>", "é", "a\tb"])
def test_unusual_request_id_is_replaced(shared_loop: LiveLoop, request_id: str) -> None:
    response = shared_loop.http.get("/healthz", headers={b"X-Request-Id": request_id.encode()})

    assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])


def test_requests_without_an_id_get_different_ones(shared_loop: LiveLoop) -> None:
    ids = {shared_loop.http.get("/healthz").headers["x-request-id"] for _ in range(20)}

    assert len(ids) == 20


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/users/nobody", "/v1/models", "/v1/recommendations?k=0", "/v1/lag?x=1"]
)
def test_problem_document_has_the_request_id(shared_loop: LiveLoop, path: str) -> None:
    response = shared_loop.http.get(path)

    assert response.status_code >= 400
    assert response.json()["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(("error", "status"), [(OSError("redis at 10.0.0.7"), 503), (RuntimeError("broken"), 500)])
def test_log_line_has_the_request_id_without_user_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, status: int
) -> None:
    store = UnreachableStore(error, is_reachable=True)
    with LiveLoop(tmp_path, store=store) as loop, caplog.at_level(logging.ERROR):
        store.is_reachable = False
        response = loop.http.get("/v1/users/secret-person", headers={"X-Request-Id": "trace-1"})

    assert_problem(response, status)
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "GET /v1/users/{user_id}, request trace-1" in message]
    assert not [message for message in messages if "secret-person" in message]
