"""Access to routes: keys by scope, compared in constant time."""

import hmac
from typing import Literal

from serving.http.errors import Problem
from stream.config import ServeSettings

# ingest: write events and items. recommend: slates, similar items, the catalog, lag. users: read and delete users.
# admin: versions, alarms and rollbacks.
Access = Literal["ingest", "recommend", "users", "admin"]
_SETTING_NAMES = {
    "ingest": "HEADRACE_SERVE__INGEST_KEY",
    "recommend": "HEADRACE_SERVE__RECOMMEND_KEY",
    "users": "HEADRACE_SERVE__ADMIN_KEY",
    "admin": "HEADRACE_SERVE__ADMIN_KEY",
}


class AccessKeys:
    """Keys that open each group of routes.

    A group without a key of its own is open, except the admin routes. The routes of users need the admin key as soon as
    any other group has a key. The admin key opens everything.
    """

    def __init__(self, serve: ServeSettings) -> None:
        admin, ingest, recommend = map(_split_keys, (serve.admin_key, serve.ingest_key, serve.recommend_key))
        self._keys: dict[Access, list[bytes]] = {
            "ingest": [*ingest, *admin],
            "recommend": [*recommend, *admin],
            "users": admin,
            "admin": admin,
        }
        is_closed = {"ingest": ingest, "recommend": recommend, "users": ingest or recommend, "admin": True}
        self._closed = {access for access, closed in is_closed.items() if closed}

    def check(self, access: Access, authorization: str) -> None:
        """Check the Authorization header of a request; 401 without a key, 403 with a wrong one."""
        if access not in self._closed:
            return
        name = "admin" if access == "users" else access
        scheme, _, token = authorization.partition(" ")
        if not token.strip() or scheme.lower() != "bearer":
            headers = {"WWW-Authenticate": "Bearer"}
            detail = f"this route needs the {name} key; send Authorization: Bearer KEY"
            raise Problem(401, f"{name.capitalize()} key required", detail, headers)
        if not self._keys[access]:
            raise Problem(403, f"No {name} key is configured", f"set {_SETTING_NAMES[access]} and restart serve")
        if not _contains(self._keys[access], token.strip().encode("latin-1", "replace")):  # headers are bytes
            raise Problem(403, f"Wrong {name} key", f"the key differs from {_SETTING_NAMES[access]}")


def _split_keys(keys: str) -> list[bytes]:
    return [key.strip().encode() for key in keys.split(",") if key.strip()]


def _contains(keys: list[bytes], token: bytes) -> bool:
    """Compare with every key, so that the time does not depend on the matching one."""
    is_known = False
    for key in keys:
        is_known |= hmac.compare_digest(token, key)
    return is_known
