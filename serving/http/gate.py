"""ASGI application that answers probes while the service loads and while it leaves."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from stream.process.shared_metrics import render_metrics

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class Gate:
    """Pass requests to an application once it is loaded.

    1. loading: `/healthz` and `/metrics` answer; every other request gets 503 with Retry-After
    2. open: all requests pass
    3. leaving: `/readyz` gives 503; other requests pass, and each response closes its connection, so that clients
       connect to another process
    """

    def __init__(self) -> None:
        self._application: Application | None = None
        self._is_leaving = False

    @property
    def is_open(self) -> bool:
        return self._application is not None

    def open(self, application: Application) -> None:
        self._application = application

    def leave(self) -> None:
        self._is_leaving = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_leaving and scope["path"] == "/readyz":
            await _send_problem(send, "Stopping", "this process is about to end; use another one")
        elif self._application:
            await self._application(scope, receive, _close_connection(send) if self._is_leaving else send)
        elif scope["path"] == "/healthz":
            await _send(send, 200, b"application/json", b'{"status":"alive"}')
        elif scope["path"] == "/metrics":
            body, content_type = render_metrics()
            await _send(send, 200, content_type.encode(), body)
        else:
            await _send_problem(send, "Loading", "the model is loading; /readyz gives 200 when it is ready")


def _close_connection(send: Send) -> Send:
    async def send_and_close(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        await send(message)

    return send_and_close


async def _send_problem(send: Send, title: str, detail: str) -> None:
    body = msgspec.json.encode({"type": "about:blank", "title": title, "status": 503, "detail": detail})
    await _send(send, 503, b"application/problem+json", body, (b"retry-after", b"1"))


async def _send(send: Send, status: int, content_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    all_headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
