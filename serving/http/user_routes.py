"""Routes of users: read and forget."""

from typing import Any

from litestar import delete, get
from litestar.datastructures import State
from litestar.params import FromPath

from serving.http.errors import Problem
from serving.http.operations import Operation, contract
from serving.http.requests import get_service, parse_id
from serving.records import UserRecord
from stream.ids import hash_id
from stream.users.profiles import decode_profile, describe

_USER = {"user_id": "u1"}

_GET_USER = Operation(
    access="users", path_example=_USER, response=UserRecord, errors=(404,),
    response_example={
        "user_id": "u1",
        "history": [{"item_id": "kettle", "type": "click", "ts": 1767225603210, "event_id": "e1"}],
        "counts": {"click": 1, "purchase": 0},
        "session": {"start": 1767225603210, "depth": 1, "last_ts": 1767225603210},
        "attributes": {},
        "offset": 0,
    },
)  # fmt: skip
_FORGET_USER = Operation(access="users", path_example=_USER)


@get("/v1/users/{user_id:str}", tags=["users"], opt=contract(_GET_USER))
async def get_user(state: State, user_id: FromPath[str]) -> dict[str, Any]:
    """Return a user's history, oldest first, with counts by type, session and attributes."""
    decoded_id = parse_id("user_id", user_id)
    value = get_service(state).store.get(hash_id(decoded_id))
    profile = None if value is None else decode_profile(value)
    if profile is None or profile.is_empty:
        raise Problem(404, "Unknown user", f"no events or attributes of user {decoded_id!r}", field="user_id")
    return describe(profile)


@delete("/v1/users/{user_id:str}", status_code=204, tags=["users"], opt=contract(_FORGET_USER))
async def forget_user(state: State, user_id: FromPath[str]) -> None:
    """Delete a user's history, counts and attributes; models trained on them stay."""
    await get_service(state).forget_user(parse_id("user_id", user_id))


ROUTES = (get_user, forget_user)
