"""Probes are answered while the service loads and while it leaves."""

import asyncio
from typing import Any

import pytest

from serving.http.gate import Gate


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def request(gate: Gate, path: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of a response."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(gate({"type": "http", "method": "GET", "path": path}, None, send))  # type: ignore[arg-type]
    return messages[0]["status"], dict(messages[0]["headers"]), messages[1]["body"]


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/metrics", 200), ("/readyz", 503), ("/v1/recommendations", 503)]
)
def test_loading_service_answers_probes_only(path: str, status: int) -> None:
    answer, headers, body = request(Gate(), path)

    assert answer == status
    assert (headers.get(b"retry-after") == b"1") is (status == 503)
    assert status == 200 or b"the model is loading" in body


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/lag"])
def test_open_gate_passes_requests(path: str) -> None:
    gate = Gate()
    gate.open(application)

    assert request(gate, path) == (200, {b"x-app": b"1"}, path.encode())


def test_leaving_service_is_not_ready_and_answers_requests() -> None:
    gate = Gate()
    gate.open(application)
    gate.leave()

    assert request(gate, "/readyz")[0] == 503
    assert request(gate, "/v1/lag") == (200, {b"x-app": b"1", b"connection": b"close"}, b"/v1/lag")
