"""Read a request: its service, its JSON body, and ids in its path."""

import codecs
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from litestar import Request
from litestar.datastructures import State

from serving.http.compression import TooLarge, gunzip
from serving.http.errors import Problem, validation_problem
from serving.http.parameters import suggest_field
from serving.ingest.json_bodies import find_invalid_field, split_elements
from serving.service import Service
from stream.records.events import find_utf8_error, validate_id

T = TypeVar("T")
_MAX_BODY_BYTES = 16 << 20


def get_service(state: State) -> Service:
    service: Service = state["service"]
    return service


async def read_body(request: Request[Any, Any, Any], media_types: tuple[str, ...] = ("application/json",)) -> bytes:
    """Read and decompress the body; 413 if it is too large, 415 if it is not JSON."""
    chunks, size = [], 0
    # Read a too large body to its end: a response before it resets the connection, and the client never sees it.
    async for chunk in request.stream():
        size += len(chunk)
        if size <= _MAX_BODY_BYTES:
            chunks.append(chunk)
    if size > _MAX_BODY_BYTES:
        raise Problem(413, "Body too large", f"the body has {size} bytes; expected at most {_MAX_BODY_BYTES}")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in media_types and not content_type.endswith("+json"):
        raise Problem(415, "Not JSON", f"content-type is {content_type!r}; expected {' or '.join(media_types)}")
    body = b"".join(chunks)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    return (body if not encoding else _decompress(body, encoding)).removeprefix(codecs.BOM_UTF8)


def _decompress(body: bytes, encoding: str) -> bytes:
    """Decompress a body; 415 unless it is gzip, 400 if damaged, 413 if too large."""
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip"):
        detail = f"content-encoding is {encoding!r}; expected gzip, or none"
        raise Problem(415, "Unsupported encoding", detail, {"Accept-Encoding": "gzip"})
    try:
        return gunzip(body, _MAX_BODY_BYTES)
    except TooLarge as error:
        raise Problem(413, "Body too large", str(error)) from None
    except ValueError as error:
        raise Problem(400, "Not gzip", str(error)) from None


def parse_elements(body: bytes) -> list[msgspec.Raw]:
    """Elements of a JSON list, or the single JSON value; 400 if the body is not JSON."""
    try:
        return split_elements(body)
    except ValueError as error:
        raise not_json(error) from None


def decode_body(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a body; 422 if it does not match the schema, 400 if it is not JSON."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise validation_problem(suggest_field(error, decoder.type)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if invalid_field := find_invalid_field(body):
            raise validation_problem(ValueError(invalid_field[1])) from None
        raise not_json(find_utf8_error(body) or error) from None


def not_json(error: Exception) -> Problem:
    return Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}")


def parse_id(field: str, text: str) -> str:
    """Decode a percent-encoded id in a path; 422 if it is invalid."""
    try:
        decoded_id = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Problem(422, "Invalid id", f"{field} {text} is not percent-encoded UTF-8", field=field) from None
    return check_id(field, decoded_id)


def check_id(field: str, text: str) -> str:
    """Return an id; 422 if it is invalid."""
    if error := validate_id(field, text):
        raise Problem(422, "Invalid id", error[1], field=field)
    return text
