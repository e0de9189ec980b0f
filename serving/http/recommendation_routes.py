"""Routes for events and recommendations."""

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from serving.http.errors import Problem, find_field, validation_problem
from serving.http.operations import Operation, contract
from serving.http.parameters import decode_query
from serving.http.requests import check_id, decode_body, get_service, parse_elements, parse_id, read_body
from serving.ingest.event_lookup import EventNotFound, EventNotRetractable
from serving.ingest.json_bodies import is_list
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.records import IngestResult, Retraction
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


class RetractionQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Query of a retraction."""

    user_id: Annotated[str | None, msgspec.Meta(description="The user of the event; by default as in the log.")] = None


_RETRACT_EVENT = Operation(
    access="ingest", path_example={"event_id": "e1"}, query=RetractionQuery, query_example={"user_id": "u1"},
    response=Retraction, response_example={"event_id": "e1", "status": "accepted"}, errors=(404, 409),
)  # fmt: skip


@post("/v1/events", status_code=202, tags=["events"], opt=contract(_POST_EVENTS))
async def post_events(state: State, request: Request[Any, Any, Any]) -> IngestResult:
    """Accept one event or a list of events.

    Accepted events are durable. A list is always answered with 202: each rejected event is listed under `refused` with
    its index and reason, and `status` says if nothing was accepted. A single event that is rejected gets 422.
    """
    body = await read_body(request, _EVENT_TYPES)
    event_ingest, pseudonyms = get_service(state).event_ingest, get_service(state).pseudonyms
    try:
        raws = parse_elements(body)
    except Problem as problem:
        event_ingest.reject_body(b"" if pseudonyms.is_enabled else body, problem.detail)
        raise
    result = await event_ingest.ingest([msgspec.Raw(pseudonyms.rewrite(raw)) for raw in raws])
    if result.refused and not is_list(body):
        detail = result.refused[0].reason
        counts = {"accepted": 0, "repeated": 0, "refused": msgspec.to_builtins(result.refused)}
        raise Problem(422, "Invalid event", detail, field=find_field(detail), **counts)
    return result


@delete("/v1/events/{event_id:str}", status_code=202, tags=["events"], opt=contract(_RETRACT_EVENT))
async def retract_event(state: State, request: Request[Any, Any, Any], event_id: FromPath[str]) -> Retraction:
    """Take an action back, as if it had not happened; repeats change nothing.

    Its user is found in the log. With `user_id`, the action may also be older than the newest records of the log, or
    arrive later; an action of another user is refused.
    """
    decoded_id, query = parse_id("event_id", event_id), decode_query(request.query_params, RetractionQuery)
    user_id = (
        None if query.user_id is None else get_service(state).pseudonyms.replace(check_id("user_id", query.user_id))
    )
    try:
        await get_service(state).retract_event(decoded_id, user_id)
    except EventNotFound as error:
        detail = f"{error}; give user_id to take it back all the same"
        raise Problem(404, "Unknown event", detail, field="event_id") from None
    except EventNotRetractable as error:
        raise Problem(409, "Not retractable", str(error), field="event_id") from None
    return Retraction(decoded_id, "accepted")


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


ROUTES = (post_events, retract_event, recommend, recommend_by_query)
