"""Routes for events and recommendations."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State

from serving.http.errors import Problem, find_field, validation_problem
from serving.http.operations import Operation, contract
from serving.http.parameters import decode_query
from serving.http.requests import decode_body, get_service, parse_elements, read_body
from serving.ingest.json_bodies import is_list
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.records import IngestResult
from stream.records.events import Event

_request_decoder = msgspec.json.Decoder(RecommendationRequest)
_EVENT = {"event_id": "e1", "type": "click", "ts": 1767225603210, "user_id": "u1", "item_id": "kettle"}
_EVENT_TYPES = ("application/json", "text/plain")  # navigator.sendBeacon sends text
_SLATE = {
    "impression_id": "570c2f743feb0f88bdb12c17",
    "model_version": "000001-000000002",
    "stale": False,
    "items": [{"item_id": "teapot", "score": -0.136431, "source": "popular", "propensity": 1.0, "explored": False}],
}

_POST_EVENTS = Operation(
    access="ingest", request=Event | list[Event], request_example=[_EVENT], media_types=_EVENT_TYPES,
    response=IngestResult,
    response_example={"accepted": 1, "repeated": 0, "refused": [], "status": "accepted"},
)  # fmt: skip
_RECOMMEND = Operation(
    access="recommend", request=RecommendationRequest, response=RecommendationResponse, response_example=_SLATE,
    request_example={"user_id": "u1", "k": 5, "surface": "home", "filters": {"max_price": 100}},
)  # fmt: skip
_RECOMMEND_BY_QUERY = Operation(
    access="recommend", query=RecommendationRequest, query_example={"user_id": "u1", "k": "5"},
    response=RecommendationResponse, response_example=_SLATE,
)  # fmt: skip


@post("/v1/events", status_code=202, tags=["events"], opt=contract(_POST_EVENTS))
async def post_events(state: State, request: Request[Any, Any, Any]) -> IngestResult:
    """Accept one event or a list of events.

    Accepted events are durable. A list is always answered with 202: each rejected event is listed under `refused` with
    its index and reason, and `status` says if nothing was accepted. A single event that is rejected gets 422.
    """
    body = await read_body(request, _EVENT_TYPES)
    event_ingest = get_service(state).event_ingest
    try:
        raws = parse_elements(body)
    except Problem as problem:
        event_ingest.reject_body(body, problem.detail)
        raise
    result = await event_ingest.ingest(raws)
    if result.refused and not is_list(body):
        detail = result.refused[0].reason
        counts = {"accepted": 0, "repeated": 0, "refused": msgspec.to_builtins(result.refused)}
        raise Problem(422, "Invalid event", detail, field=find_field(detail), **counts)
    return result


@post("/v1/recommendations", status_code=200, tags=["recommendations"], opt=contract(_RECOMMEND))
async def recommend(state: State, request: Request[Any, Any, Any]) -> RecommendationResponse:
    """Return a slate for a user: items with their score, source channel and propensity.

    Send `impression_id` with the actions on these items. Without anything to recommend, `items` is empty and `reason`
    says why.
    """
    return await _recommend(state, decode_body(await read_body(request), _request_decoder))


@get("/v1/recommendations", tags=["recommendations"], opt=contract(_RECOMMEND_BY_QUERY))
async def recommend_by_query(state: State, request: Request[Any, Any, Any]) -> RecommendationResponse:
    """Return a slate for a user, with the request as query parameters.

    Repeat `exclude` and `candidates` for several ids; write `context` and `filters` as JSON.
    """
    return await _recommend(state, decode_query(request.query_params, RecommendationRequest))


async def _recommend(state: State, request: RecommendationRequest) -> RecommendationResponse:
    service = get_service(state)
    try:
        service.check_time(request)
    except ValueError as error:
        raise validation_problem(error) from None
    return await service.recommend(request)


ROUTES = (post_events, recommend, recommend_by_query)
