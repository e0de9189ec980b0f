"""Answer plain requests for recommendations before the web framework, at less cost."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from serving import metrics
from serving.http.access import AccessKeys
from serving.http.errors import PROBLEM_TYPE, Problem, build_document, convert_error, describe_request
from serving.http.request_ids import HEADER, find_request_id
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.service import Service
from stream.process.log_lines import request_id

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
_PATH = b"/v1/recommendations"
_CONTENT_TYPE = b"application/json"
_OTHER_HEADERS = {b"content-encoding", b"origin", b"expect"}  # of requests that the framework answers
_request_decoder = msgspec.json.Decoder(RecommendationRequest)


class DirectPath:
    """Answer valid `POST /v1/recommendations` with the bytes that the framework would send.

    1. A request with a query, a compressed or divided body, an origin, or no right key is left to the framework.
    2. So is one whose body is invalid; the framework reads the same body again and explains the error.
    3. All others are answered here, and errors after this point as well: nothing is ranked or logged twice.
    """

    def __init__(self, service: Service, keys: AccessKeys) -> None:
        self._service = service
        self._keys = keys

    def accepts(self, scope: Mapping[str, Any]) -> bool:
        """Return True if the head of a request allows the direct path."""
        if scope["raw_path"] != _PATH or scope["method"] != "POST" or scope["query_string"]:
            return False
        headers = dict(scope["headers"])
        if len(headers) < len(scope["headers"]) or headers.get(b"content-type") != _CONTENT_TYPE:
            return False
        return headers.keys().isdisjoint(_OTHER_HEADERS) and self._has_key(headers.get(b"authorization", b""))

    async def respond(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> Receive | None:
        """Send the response and return None.

        For an invalid request nothing is sent; the result is a `receive` that repeats its body for the framework.
        """
        message, state = await receive(), {"request_id": find_request_id(scope["headers"])}
        request_id.set(state["request_id"])  # for the log lines of this request
        try:
            response = await self._recommend(message)
        except Exception as error:
            description = describe_request({"method": scope["method"], "path_template": _PATH.decode(), "state": state})
            outage = self._service.stored_users.request_outage
            await _send_problem(send, convert_error(error, description, outage), state["request_id"])
            return None
        if response is None:
            return _repeat(message, receive)
        await _send(send, 200, _CONTENT_TYPE, msgspec.json.encode(response), state["request_id"])
        return None

    async def _recommend(self, message: Mapping[str, Any]) -> RecommendationResponse | None:
        """Response to a message; None unless it is a complete and valid request."""
        self._service.check_wait()  # first: a request that is rejected costs as little as possible
        request = self._decode(message)
        return None if request is None else await self._service.recommend(request)

    def _has_key(self, authorization: bytes) -> bool:
        try:
            self._keys.check("recommend", authorization.decode("latin-1"))
        except Problem:
            return False
        return True

    def _decode(self, message: Mapping[str, Any]) -> RecommendationRequest | None:
        """Request in a message; None unless it is complete and valid."""
        if message["type"] != "http.request" or message.get("more_body"):
            return None
        try:
            request = _request_decoder.decode(message.get("body", b""))
            self._service.check_time(request)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return request


def _repeat(message: Any, receive: Receive) -> Receive:
    """Receive a message once more, then those that follow it."""
    messages = [message]

    async def receive_again() -> Any:
        return messages.pop() if messages else await receive()

    return receive_again


async def _send_problem(send: Send, problem: Problem, request_id: str) -> None:
    metrics.http_errors.labels(str(problem.status)).inc()
    headers = [(name.lower().encode(), value.encode()) for name, value in (problem.headers or {}).items()]
    body = msgspec.json.encode(build_document(problem, request_id))
    await _send(send, problem.status, PROBLEM_TYPE.encode(), body, request_id, *headers)


async def _send(
    send: Send, status: int, content_type: bytes, body: bytes, request_id: str, *headers: tuple[bytes, bytes]
) -> None:
    length = str(len(body)).encode()
    all_headers = [
        (b"content-type", content_type),
        *headers,
        (b"content-length", length),
        (HEADER, request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
