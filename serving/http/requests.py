"""What every route needs of a request: the service behind it, a body that is JSON, an id out of the path."""

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request
from litestar.datastructures import State

from serving.http.errors import Problem
from serving.ingest.json_bodies import split_elements
from serving.service import Service
from stream.records.events import validate_id

_MAX_BODY_BYTES = 16 << 20


def get_service(state: State) -> Service:
    service: Service = state["service"]
    return service


async def read_body(request: Request[Any, Any, Any]) -> bytes:
    """The body, if it says that it is JSON."""
    chunks, size = [], 0
    # Read to the end whatever comes: a server that answers into a body still being sent resets the connection.
    async for chunk in request.stream():
        size += len(chunk)
        if size <= _MAX_BODY_BYTES:
            chunks.append(chunk)
    if size > _MAX_BODY_BYTES:
        raise Problem(413, "Too large", f"the body has {size} bytes; at most {_MAX_BODY_BYTES} are taken")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise Problem(415, "Not JSON", f"content-type is {content_type!r}; application/json is expected")
    return b"".join(chunks)


def parse_elements(body: bytes) -> list[msgspec.Raw]:
    try:
        return split_elements(body)
    except ValueError as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None


def parse_id(field: str, text: str) -> str:
    """An id out of the path, where it stands percent-encoded."""
    try:
        decoded_id = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Problem(422, "Not an id", f"{field} {text} is not percent-encoded UTF-8", field=field) from None
    if error := validate_id(field, decoded_id):
        raise Problem(422, "Not an id", error[1], field=field)
    return decoded_id
