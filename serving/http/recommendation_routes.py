"""What a shop asks over HTTP: events in, recommendations out, what is known of a person."""

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from serving.http.errors import Problem, find_field, validation_problem
from serving.http.requests import get_service, parse_elements, parse_id, read_body
from serving.ingest.event_ingest import IngestResult
from serving.ingest.json_bodies import find_invalid_field, is_list
from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from stream.ids import hash_id
from stream.users.profiles import decode_profile, describe

_LIST_FIELDS, _OBJECT_FIELDS = (
    ("exclude", "candidates"),
    ("context", "filters"),
)  # fields of a question, as a query writes them
_request_decoder = msgspec.json.Decoder(RecommendationRequest)


@post("/v1/events", status_code=202, tags=["events"])
async def post_events(state: State, request: Request[Any, Any, Any]) -> IngestResult:
    """Take one event or a list of them. What is accepted is durable; what is refused is named with its reason."""
    body = await read_body(request)
    event_ingest = get_service(state).event_ingest
    try:
        raws = parse_elements(body)
    except Problem as problem:
        event_ingest.reject_body(body, problem.detail)
        raise
    result = await event_ingest.ingest(raws)
    if result.refused and not is_list(body):
        detail = result.refused[0]["reason"]
        raise Problem(422, "Not an event", detail, field=find_field(detail), **msgspec.structs.asdict(result))
    return result


@post("/v1/recommendations", status_code=200, tags=["recommendations"])
async def recommend(state: State, request: Request[Any, Any, Any]) -> RecommendationResponse:
    """A slate for a person: what to show, who found it, and with what probability it stands where it stands."""
    body = await read_body(request)
    try:
        recommendation_request = _request_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise validation_problem(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if invalid_field := find_invalid_field(body):
            raise validation_problem(ValueError(invalid_field[1])) from None
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    return await get_service(state).recommend(recommendation_request)


@get("/v1/recommendations", tags=["recommendations"])
async def recommend_by_query(state: State, request: Request[Any, Any, Any]) -> RecommendationResponse:
    """The same by query: `exclude` and `candidates` are repeated, `context` and `filters` are written as JSON."""
    params = request.query_params
    values: dict[str, Any] = {name: params.getall(name) if name in _LIST_FIELDS else params[name] for name in params}
    try:
        values |= {name: msgspec.json.decode(params[name]) for name in _OBJECT_FIELDS if name in params}
        recommendation_request = msgspec.convert(values, RecommendationRequest, strict=False)
    except msgspec.ValidationError as error:
        raise validation_problem(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(422, "Not what is expected here", f"context and filters must be JSON: {error}") from None
    return await get_service(state).recommend(recommendation_request)


@get("/v1/users/{user_id:str}", tags=["users"])
async def get_user(state: State, user_id: FromPath[str]) -> dict[str, Any]:
    """What is known of a person: history oldest first, counts of events by type, session, attributes."""
    decoded_id = parse_id("user_id", user_id)
    value = get_service(state).store.get(hash_id(decoded_id))
    profile = None if value is None else decode_profile(value)
    if profile is None or profile.is_empty:
        raise Problem(404, "No such person", f"nothing is known of user {decoded_id!r}", field="user_id")
    return describe(profile)


@delete("/v1/users/{user_id:str}", status_code=204, tags=["users"])
async def forget_user(state: State, user_id: FromPath[str]) -> None:
    """Forget a person: their history, counts and attributes. What was learnt of items stays."""
    await get_service(state).forget_user(parse_id("user_id", user_id))


ROUTES = (post_events, recommend, recommend_by_query, get_user, forget_user)
