"""OpenAPI document, from the types that decode requests and encode responses."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from serving.http.operations import Operation
from serving.http.parameters import parameter_kinds
from serving.records import ProblemDocument

_REF = "#/components/schemas/{name}"
ERRORS = {
    400: "The body is not JSON in UTF-8, or not gzip as its header says.",
    401: "The route needs a key.",
    403: "The key does not open this route.",
    404: "The item, user or version is unknown.",
    409: "The version is damaged, blocked, or older than the log.",
    413: "The body is larger than 16 MiB, before or after decompression.",
    415: "The content type or encoding of the body is not supported.",
    422: "A field or parameter is unknown, missing or invalid; `field` names it.",
    500: "The request failed; the log of the server has the reason under the request id.",
    503: "The log or the user store is unavailable, or too many requests wait; retry after `Retry-After` seconds.",
}
_PATH_PARAMETERS = {
    "event_id": "Id of an event, percent-encoded.",
    "item_id": "Id of an item, percent-encoded.",
    "user_id": "Id of a user, percent-encoded.",
    "version": "Version of the model: epoch and step.",
}
_TAGS = {
    "events": "What users did.",
    "recommendations": "What to show next.",
    "items": "The catalog, and neighbors of an item.",
    "users": "State of users.",
    "operations": "Versions, alarms and lag.",
    "health": "Probes and metrics.",
}
_DESCRIPTION = """\
Events in, recommendations out. Errors are problem documents (RFC 9457). Unknown fields and parameters are refused,
except in events and items, where they pass through. Each response has the header `X-Request-Id`."""
_ACCESS = {
    "ingest": "Needs a key if `serve.ingest_key` is set.",
    "recommend": "Needs a key if `serve.recommend_key` is set.",
    "users": "Needs the admin key if `serve.ingest_key` or `serve.recommend_key` is set.",
    "admin": "Needs the admin key.",
}


@dataclass(frozen=True)
class Route:
    """A route with its contract."""

    method: str  # lower case
    path: str  # parameters in braces
    status: int  # of success
    name: str
    text: str  # first line: summary
    tag: str
    operation: Operation

    @property
    def path_parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)


def make_document_builder(routes: Sequence[Route]) -> Callable[[int], dict[str, Any]]:
    """Return a function of the current time, ms, that builds the document.

    Examples of events have the current time, since old events are rejected.
    """
    types = [kind for route in routes for kind in _iter_types(route.operation)] + [ProblemDocument]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for schema in components.values():
        _widen_types(schema)
    schema_by_type = {_identify(kind): schema for kind, schema in zip(types, schemas, strict=True)}

    def build(now_ms: int) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for route in routes:
            paths.setdefault(route.path, {})[route.method] = _describe_route(route, schema_by_type, components, now_ms)
        return _HEAD | {
            "paths": paths,
            "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES, "headers": _HEADERS},
        }

    return build


def _widen_types(schema: dict[str, Any]) -> None:
    """Let `anyOf` replace the one type that a field has after decoding."""
    for field in schema.get("properties", {}).values():
        if "anyOf" in field:
            field.pop("type", None)


_HEAD = {
    "openapi": "3.1.0",
    "info": {
        "title": "Headrace", "version": "1", "description": _DESCRIPTION,
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    },
    "servers": [{"url": "/"}],
    "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
}  # fmt: skip
_SECURITY_SCHEMES = {"key": {"type": "http", "scheme": "bearer", "description": "A key of the settings `serve.*_key`."}}
_HEADERS = {
    "RequestId": {"description": "Id of the request: its own X-Request-Id, or a new one.", "schema": {"type": "string"}}
}


def _iter_types(operation: Operation) -> Iterator[Any]:
    return (kind for kind in (operation.request, operation.response, operation.query) if kind not in (None, str))


def _identify(kind: Any) -> str:
    return repr(kind)


def _describe_route(
    route: Route, schema_by_type: dict[str, Any], components: dict[str, Any], now_ms: int
) -> dict[str, Any]:
    """Operation object of a route."""
    operation = route.operation
    summary, _, rest = route.text.partition("\n")
    access = _ACCESS.get(operation.access or "", "")
    result: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": summary,
        "description": "\n\n".join(filter(None, [" ".join(rest.split()), access])) or summary,
        "security": _describe_security(operation),
        "parameters": _describe_parameters(route, schema_by_type, components),
        "responses": _describe_responses(route, schema_by_type),
    }
    if operation.request is not None:
        example = _set_times(operation.request_example, now_ms)
        content = {"schema": schema_by_type[_identify(operation.request)], "example": example}
        result["requestBody"] = {"required": True, "content": dict.fromkeys(operation.media_types, content)}
    return result


def _describe_security(operation: Operation) -> list[dict[str, list[str]]]:
    """Alternatives: a key, or none where the key is optional."""
    if operation.access is None:
        return []
    return [{"key": []}] if operation.access == "admin" else [{"key": []}, {}]


def _describe_parameters(
    route: Route, schema_by_type: dict[str, Any], components: dict[str, Any]
) -> list[dict[str, Any]]:
    path_parameters = [
        {
            "name": name, "in": "path", "required": True, "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string", "minLength": 1}, "example": route.operation.path_example[name],
        }
        for name in route.path_parameters
    ]  # fmt: skip
    query = route.operation.query
    if query is None:
        return path_parameters
    struct = components[schema_by_type[_identify(query)]["$ref"].rpartition("/")[2]]
    kinds, examples = parameter_kinds(query), route.operation.query_example
    return path_parameters + [
        _describe_query_parameter(name, schema, name in struct["required"], kinds[name], examples)
        for name, schema in struct["properties"].items()
    ]


def _describe_query_parameter(
    name: str, schema: dict[str, Any], is_required: bool, kind: str, examples: Mapping[str, str]
) -> dict[str, Any]:
    """Parameter object; one that is JSON has a content type instead of a schema."""
    schema = _without_null(schema)
    parameter = {"name": name, "in": "query", "required": is_required, "description": schema.pop("description", "")}
    if kind == "object":
        return parameter | {"content": {"application/json": {"schema": schema}}}
    return parameter | {"schema": schema} | ({"example": examples[name]} if name in examples else {})


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Schema of a parameter: a query cannot hold null."""
    result = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    alternatives = [kind for kind in result.get("anyOf", ()) if kind != {"type": "null"}]
    if len(alternatives) == 1:
        del result["anyOf"]
        result |= alternatives[0]
    return result


def _describe_responses(route: Route, schema_by_type: dict[str, Any]) -> dict[str, Any]:
    headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    success: dict[str, Any] = {"description": HTTPStatus(route.status).phrase, "headers": headers}
    response, example = route.operation.response, route.operation.response_example
    if response is str:
        success["content"] = {"text/plain": {"schema": {"type": "string"}, "example": example}}
    elif response is not None:
        schema = schema_by_type[_identify(response)]
        success["content"] = {"application/json": {"schema": schema, "example": example}}
    content = {"application/problem+json": {"schema": {"$ref": _REF.format(name="ProblemDocument")}}}
    errors = {
        str(status): {"description": ERRORS[status], "headers": headers, "content": content}
        for status in sorted(set(_iter_error_statuses(route)))
    }
    return {str(route.status): success} | errors


def _iter_error_statuses(route: Route) -> Iterator[int]:
    """Statuses of errors that follow from the contract."""
    operation = route.operation
    yield from operation.errors
    if operation.access is not None:
        yield from (401, 403, 422, 500, 503)
    if operation.request is not None:
        yield from (400, 413, 415)


def _set_times(example: Any, now_ms: int) -> Any:
    """Copy of an example with the current time as each `ts`."""
    if isinstance(example, list):
        return [_set_times(element, now_ms) for element in example]
    if not isinstance(example, dict):
        return example
    return {name: now_ms if name == "ts" else _set_times(value, now_ms) for name, value in example.items()}
