"""Requests of the client: method, path, body, and the type of the response."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.records import (
    IngestResult,
    ItemBoard,
    ItemPage,
    Lag,
    PutResult,
    Retraction,
    SimilarItems,
    UserRecord,
)
from stream.clock import Clock

T = TypeVar("T")
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request; an idempotent one is repeated after any failure of the connection."""

    method: str
    path: str
    response_type: type[T]
    body: bytes | None = None
    is_idempotent: bool = True


def send_events(events: Sequence[bytes]) -> Call[IngestResult]:
    return Call("POST", "/v1/events", IngestResult, b"[" + b",".join(events) + b"]")


def encode_event(event: Fields, clock: Clock) -> bytes:
    """Encode an event, with an `event_id` so that a repeat changes nothing, and its time."""
    return msgspec.json.encode({"event_id": secrets.token_hex(12), "ts": clock.now_ms()} | dict(event))


def retract_event(event_id: str, user_id: str | None) -> Call[Retraction]:
    return Call("DELETE", f"/v1/events/{_quote(event_id)}{_query({'user_id': user_id})}", Retraction)


def recommend(request: RecommendationRequest) -> Call[RecommendationResponse]:
    body = msgspec.json.encode(request)
    # A repeat of a request that was processed would log a second impression.
    return Call("POST", "/v1/recommendations", RecommendationResponse, body, is_idempotent=not request.log)


def similar(item_id: str, query: Fields) -> Call[SimilarItems]:
    return Call("GET", f"/v1/items/{_quote(item_id)}/similar{_query(query)}", SimilarItems)


def board(name: str, query: Fields) -> Call[ItemBoard]:
    return Call("GET", f"/v1/{name}{_query(query)}", ItemBoard)


def put_items(items: Iterable[Fields]) -> Call[PutResult]:
    return Call("POST", "/v1/items", PutResult, msgspec.json.encode(list(items)))


def change_item(item_id: str, fields: Fields) -> Call[PutResult]:
    return Call("PATCH", f"/v1/items/{_quote(item_id)}", PutResult, msgspec.json.encode(fields))


def delete_item(item_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/items/{_quote(item_id)}", NoneType)


def item(item_id: str) -> Call[dict[str, Any]]:
    return Call("GET", f"/v1/items/{_quote(item_id)}", dict[str, Any])


def list_items(query: Fields) -> Call[ItemPage]:
    return Call("GET", f"/v1/items{_query(query)}", ItemPage)


def user(user_id: str) -> Call[UserRecord]:
    return Call("GET", f"/v1/users/{_quote(user_id)}", UserRecord)


def put_user(user_id: str, fields: Fields) -> Call[None]:
    return Call("PUT", f"/v1/users/{_quote(user_id)}", NoneType, msgspec.json.encode(fields))


def forget_user(user_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/users/{_quote(user_id)}", NoneType)


LAG = Call("GET", "/v1/lag", Lag)
READINESS = Call("GET", "/readyz", dict[str, Any])
MODELS = Call("GET", "/v1/models", list[dict[str, Any]])
ALARMS = Call("GET", "/v1/alarms", list[dict[str, Any]])


def _quote(identifier: str) -> str:
    """Encode an id as one path segment; HTTP libraries would resolve "." and ".." as folders."""
    return quote(identifier, safe="").replace(".", "%2E")


def _query(parameters: Fields) -> str:
    """Query of the parameters that are not None; mappings and lists become JSON."""
    pairs = {name: _encode_parameter(value) for name, value in parameters.items() if value is not None}
    return f"?{urlencode(pairs)}" if pairs else ""


def _encode_parameter(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
