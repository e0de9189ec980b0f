"""Contract of each route: its access, schemas and examples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litestar import Request

from serving.http.access import Access, AccessKeys
from serving.http.errors import Problem
from serving.http.parameters import check_encoding

_KEY = "operation"


@dataclass(frozen=True)
class Operation:
    """Access, schemas and examples of one route.

    Schemas are types that msgspec decodes or encodes. `errors` are statuses besides those that follow from the rest.
    """

    access: Access | None = None  # None: open to everyone, any query
    response: Any = None  # None: no body
    response_example: Any = None
    request: Any = None  # None: no body
    request_example: Any = None
    query: Any = None  # a struct; None: no parameters
    query_example: Mapping[str, str] = field(default_factory=dict)
    path_example: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    media_types: tuple[str, ...] = ("application/json",)  # of the request


def contract(operation: Operation) -> dict[str, Any]:
    """Options of a route handler that carry its contract."""
    return {_KEY: operation}


def find_operation(options: Mapping[str, Any]) -> Operation | None:
    operation: Operation | None = options.get(_KEY)
    return operation


class Admission:
    """Check the key of each request, and refuse query parameters where a route takes none."""

    def __init__(self, keys: AccessKeys) -> None:
        self._keys = keys

    async def __call__(self, request: Request[Any, Any, Any]) -> None:
        operation = find_operation(request.route_handler.opt)
        if operation is None or operation.access is None:
            return
        self._keys.check(operation.access, request.headers.get("authorization", ""))
        check_encoding(request.scope["query_string"])
        if operation.query is None and request.scope["query_string"]:
            name = next(iter(request.query_params), "")
            detail = f"unknown query parameter {name!r}; this route takes none"
            raise Problem(422, "Invalid request", detail, field=name)
