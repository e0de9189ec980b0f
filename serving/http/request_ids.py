"""Id of each request: from its header, or generated; the response returns it."""

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

HEADER = b"x-request-id"
_VALID_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)


def find_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Id in the headers of a request; a new one unless it has 1 to 128 plain characters.

    >>> find_request_id([(b"x-request-id", b"9f2c")])
    '9f2c'
    """
    for name, value in headers:
        if name == HEADER:
            return value.decode() if _VALID_ID.fullmatch(value) else secrets.token_hex(8)
    return secrets.token_hex(8)


def get_request_id(scope: Mapping[str, Any]) -> str:
    request_id: str = scope["state"]["request_id"]
    return request_id
