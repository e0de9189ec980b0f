"""Routes for events, recommendations and users."""

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from serving.http.errors import Problem, find_field, validation_problem
from serving.http.requests import decode_body, get_service, parse_elements, parse_id, read_body
from serving.ingest.json_bodies import is_list
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.records import IngestResult
from stream.ids import hash_id
from stream.users.profiles import decode_profile, describe

_LIST_FIELDS = ("exclude", "candidates")  # repeated parameters of a query
_OBJECT_FIELDS = ("context", "filters")  # JSON parameters of a query
_request_decoder = msgspec.json.Decoder(RecommendationRequest)


@post("/v1/events", status_code=202, tags=["events"])
async def post_events(state: State, request: Request[Any, Any, Any]) -> IngestResult:
    """Accept one event or a list of events.

    Accepted events are durable. Each rejected event is listed under `refused` with its index and reason.
    """
    body = await read_body(request)
    event_ingest = get_service(state).event_ingest
    try:
        raws = parse_elements(body)
    except Problem as problem:
        event_ingest.reject_body(body, problem.detail)
        raise
    result = await event_ingest.ingest(raws)
    if result.refused and not is_list(body):
        detail = result.refused[0].reason
        raise Problem(422, "Invalid event", detail, field=find_field(detail), **msgspec.structs.asdict(result))
    return result


@post("/v1/recommendations", status_code=200, tags=["recommendations"])
async def recommend(state: State, request: Request[Any, Any, Any]) -> RecommendationResponse:
    """Return a slate for a user: items with their score, source channel and propensity."""
    return await get_service(state).recommend(decode_body(await read_body(request), _request_decoder))


@get("/v1/recommendations", tags=["recommendations"])
async def recommend_by_query(state: State, request: Request[Any, Any, Any]) -> RecommendationResponse:
    """Return a slate for a user, with the request as query parameters.

    Repeat `exclude` and `candidates` for several ids; write `context` and `filters` as JSON.
    """
    params = request.query_params
    values: dict[str, Any] = {name: params.getall(name) if name in _LIST_FIELDS else params[name] for name in params}
    try:
        values |= {name: msgspec.json.decode(params[name]) for name in _OBJECT_FIELDS if name in params}
        recommendation_request = msgspec.convert(values, RecommendationRequest, strict=False)
    except msgspec.ValidationError as error:
        raise validation_problem(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(422, "Invalid request", f"context and filters must be JSON: {error}") from None
    return await get_service(state).recommend(recommendation_request)


@get("/v1/users/{user_id:str}", tags=["users"])
async def get_user(state: State, user_id: FromPath[str]) -> dict[str, Any]:
    """Return a user's history, oldest first, with counts by type, session and attributes."""
    decoded_id = parse_id("user_id", user_id)
    value = get_service(state).store.get(hash_id(decoded_id))
    profile = None if value is None else decode_profile(value)
    if profile is None or profile.is_empty:
        raise Problem(404, "Unknown user", f"no events or attributes of user {decoded_id!r}", field="user_id")
    return describe(profile)


@delete("/v1/users/{user_id:str}", status_code=204, tags=["users"])
async def forget_user(state: State, user_id: FromPath[str]) -> None:
    """Delete a user's history, counts and attributes; models trained on them stay."""
    await get_service(state).forget_user(parse_id("user_id", user_id))


ROUTES = (post_events, recommend, recommend_by_query, get_user, forget_user)
