"""Routes of users: read, describe and forget."""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post, put
from litestar.datastructures import State
from litestar.params import FromPath

from serving.http.errors import Problem, validation_problem
from serving.http.operations import Operation, contract
from serving.http.requests import check_id, decode_body, get_service, parse_id, read_body
from serving.records import MergeRequest, MergeResult, UserFields, UserRecord
from stream.ids import hash_id
from stream.users.profiles import decode_profile, describe

_MAX_FIELDS_BYTES = 16 << 10
_USER = {"user_id": "u1"}
_FIELDS = {"city": "Ulm", "interests": ["tea"]}
_merge_decoder = msgspec.json.Decoder(MergeRequest)
_fields_decoder = msgspec.json.Decoder(dict[str, Any])

_GET_USER = Operation(
    access="users", path_example=_USER, response=UserRecord, errors=(404,),
    response_example={
        "user_id": "u1",
        "history": [{"item_id": "kettle", "type": "click", "ts": 1767225603210, "event_id": "e1"}],
        "counts": {"click": 1, "purchase": 0},
        "session": {"start": 1767225603210, "depth": 1, "last_ts": 1767225603210},
        "attributes": {"city": "Ulm"},
        "interests": ["tea"],
        "consent": True,
        "offset": 0,
    },
)  # fmt: skip
_WRITE_USER = Operation(access="users", path_example=_USER, request=UserFields, request_example=_FIELDS)
_MERGE_USER = Operation(
    access="users", path_example={"user_id": "session:s1"}, request=MergeRequest, request_example={"into": "u1"},
    response=MergeResult, response_example={"user_id": "u1", "anonymous_id": "session:s1", "status": "accepted"},
)  # fmt: skip
_FORGET_USER = Operation(access="users", path_example=_USER)


@get("/v1/users/{user_id:str}", tags=["users"], opt=contract(_GET_USER))
async def get_user(state: State, user_id: FromPath[str]) -> dict[str, Any]:
    """Return a user's history, oldest first, with counts by type, session and attributes.

    The id of the anonymous user of a session is `session:` and the session id.
    """
    decoded_id, service = parse_id("user_id", user_id), get_service(state)
    value = service.store.get(hash_id(service.pseudonyms.replace(decoded_id)))
    profile = None if value is None else decode_profile(value)
    if profile is None or profile.is_empty:
        raise Problem(404, "Unknown user", f"no events or attributes of user {decoded_id!r}", field="user_id")
    return describe(profile) | {"user_id": decoded_id}


@put("/v1/users/{user_id:str}", status_code=204, tags=["users"], opt=contract(_WRITE_USER))
async def put_user(state: State, request: Request[Any, Any, Any], user_id: FromPath[str]) -> None:
    """Replace the attributes, interests and consent of a user; the history stays.

    `consent` false forgets the user: nothing is kept or trained until `consent` is true again.
    """
    decoded_id = parse_id("user_id", user_id)
    fields = _parse_fields(decoded_id, await read_body(request))
    await _change_user(state, decoded_id, lambda stored: fields)


@patch("/v1/users/{user_id:str}", status_code=204, tags=["users"], opt=contract(_WRITE_USER))
async def patch_user(state: State, request: Request[Any, Any, Any], user_id: FromPath[str]) -> None:
    """Change some attributes, the interests or the consent of a user; null removes a field."""
    decoded_id = parse_id("user_id", user_id)
    fields = _parse_fields(decoded_id, await read_body(request))
    await _change_user(state, decoded_id, lambda stored: stored | fields)


@post("/v1/users/{user_id:str}/merge", status_code=202, tags=["users"], opt=contract(_MERGE_USER))
async def merge_user(state: State, request: Request[Any, Any, Any], user_id: FromPath[str]) -> MergeResult:
    """Join the history of an anonymous user to an account, once.

    The anonymous user is then unknown. An event of type `alias` does the same. `GET /v1/lag` is 0 when it is done.
    """
    anonymous_id = parse_id("user_id", user_id)
    account_id = check_id("into", decode_body(await read_body(request), _merge_decoder).into)
    if anonymous_id == account_id:
        raise Problem(422, "Invalid request", f"into is {account_id!r}, the user itself", field="into")
    replace = get_service(state).pseudonyms.replace
    await get_service(state).merge_users(replace(anonymous_id), replace(account_id))
    return MergeResult(account_id, anonymous_id, "accepted")


@delete("/v1/users/{user_id:str}", status_code=204, tags=["users"], opt=contract(_FORGET_USER))
async def forget_user(state: State, user_id: FromPath[str]) -> None:
    """Delete a user's history, counts and attributes; models trained on them stay."""
    service = get_service(state)
    await service.forget_user(service.pseudonyms.replace(parse_id("user_id", user_id)))


async def _change_user(state: State, user_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    service = get_service(state)
    await service.change_user(service.pseudonyms.replace(user_id), lambda stored: _drop_nulls(change(stored)))


def _parse_fields(user_id: str, body: bytes) -> dict[str, Any]:
    """Parse the fields of a user; 422 names an invalid one."""
    if len(body) > _MAX_FIELDS_BYTES:
        detail = f"the body has {len(body)} bytes; expected at most {_MAX_FIELDS_BYTES}"
        raise Problem(413, "Body too large", detail)
    fields = decode_body(body, _fields_decoder)
    try:
        msgspec.convert(fields, UserFields)
        if fields.pop("user_id", user_id) != user_id:
            raise ValueError(f"user_id in the body differs from {user_id!r} in the path")
    except (ValueError, msgspec.ValidationError) as error:
        raise validation_problem(error) from None
    return fields


def _drop_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


ROUTES = (get_user, put_user, patch_user, merge_user, forget_user)
