"""What a shop asks over HTTP: events in, recommendations out, what is known of a person."""

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from serving.http.errors import Problem, field_of, invalid
from serving.http.requests import body_of, elements_of, id_of, service_of
from serving.ingest.event_ingest import Received
from serving.ingest.json_bodies import fault_of, is_list
from serving.pipeline.schemas import Answer, Question
from stream.ids import key_of
from stream.users.profiles import decode_profile, describe

_LISTS, _OBJECTS = ("exclude", "candidates"), ("context", "filters")  # fields of a question, as a query writes them
_questions = msgspec.json.Decoder(Question)


@post("/v1/events", status_code=202, tags=["events"])
async def take_events(state: State, request: Request[Any, Any, Any]) -> Received:
    """Take one event or a list of them. What is accepted is durable; what is refused is named with its reason."""
    body = await body_of(request)
    inbox = service_of(state).inbox
    try:
        raws = elements_of(body)
    except Problem as problem:
        inbox.refuse(body, problem.detail)
        raise
    received = await inbox.take(raws)
    if received.refused and not is_list(body):
        detail = received.refused[0]["reason"]
        raise Problem(422, "Not an event", detail, field=field_of(detail), **msgspec.structs.asdict(received))
    return received


@post("/v1/recommendations", status_code=200, tags=["recommendations"])
async def recommend(state: State, request: Request[Any, Any, Any]) -> Answer:
    """A slate for a person: what to show, who found it, and with what probability it stands where it stands."""
    body = await body_of(request)
    try:
        question = _questions.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if fault := fault_of(body):
            raise invalid(ValueError(fault[1])) from None
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    return await service_of(state).answer(question)


@get("/v1/recommendations", tags=["recommendations"])
async def recommend_by_query(state: State, request: Request[Any, Any, Any]) -> Answer:
    """The same by query: `exclude` and `candidates` are repeated, `context` and `filters` are written as JSON."""
    given = request.query_params
    values: dict[str, Any] = {name: given.getall(name) if name in _LISTS else given[name] for name in given}
    try:
        values |= {name: msgspec.json.decode(given[name]) for name in _OBJECTS if name in given}
        question = msgspec.convert(values, Question, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(422, "Not what is expected here", f"context and filters must be JSON: {error}") from None
    return await service_of(state).answer(question)


@get("/v1/users/{user_id:str}", tags=["users"])
async def get_user(state: State, user_id: FromPath[str]) -> dict[str, Any]:
    """What is known of a person: history oldest first, counts of events by type, session, attributes."""
    name = id_of("user_id", user_id)
    value = service_of(state).store.get(key_of(name))
    profile = None if value is None else decode_profile(value)
    if profile is None or profile.is_empty:
        raise Problem(404, "No such person", f"nothing is known of user {name!r}", field="user_id")
    return describe(profile)


@delete("/v1/users/{user_id:str}", status_code=204, tags=["users"])
async def forget_user(state: State, user_id: FromPath[str]) -> None:
    """Forget a person: their history, counts and attributes. What was learnt of items stays."""
    await service_of(state).forget(id_of("user_id", user_id))


ROUTES = (take_events, recommend, recommend_by_query, get_user, forget_user)
