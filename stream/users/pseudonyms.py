"""Replace user ids by keyed hashes before they are written anywhere."""

import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from stream.records.events import SESSION_PREFIX, validate_id

_ID_FIELDS = ("user_id", "session_id", "anonymous_id")
_HEX_DIGITS = 32  # 128 bits


class Pseudonyms:
    """Pseudonyms of user and session ids: HMAC-SHA256 with a secret, 32 hex digits (RFC 2104).

    Without a secret, ids stay as they are. An invalid id stays too, so that it is rejected.

    >>> Pseudonyms("secret").replace("ann")
    'aad4e6199b77de3305e568999486a8be'
    >>> Pseudonyms("").replace("ann")
    'ann'
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @property
    def is_enabled(self) -> bool:
        return bool(self._secret)

    def replace(self, user_id: str) -> str:
        """Pseudonym of a user id; that of an anonymous user keeps its prefix."""
        prefix = SESSION_PREFIX if user_id.startswith(SESSION_PREFIX) else ""
        name = user_id.removeprefix(prefix)
        if not self._secret or validate_id("user_id", name):
            return user_id
        return prefix + hmac.digest(self._secret, name.encode(), "sha256").hex()[:_HEX_DIGITS]

    def rewrite(self, value: bytes | msgspec.Raw) -> bytes:
        """Replace the ids in an event or a user as JSON; empty if it is no object with valid text."""
        if not self._secret:
            return bytes(value)
        try:
            fields = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return b""  # whatever it holds could name the user
        return msgspec.json.encode(self._replace_fields(fields)) if isinstance(fields, dict) else b"null"

    def _replace_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        ids = {name: fields[name] for name in _ID_FIELDS if isinstance(fields.get(name), str)}
        return dict(fields) | {name: self.replace(value) for name, value in ids.items()}
