"""Page docs/reference/api.md, from the OpenAPI document."""

import json
from typing import Any

from serving.http.app import list_routes
from serving.http.documentation.document import ERRORS, make_document_builder

_EXAMPLE_TIME = 1_767_225_603_210  # ms
_HEAD = (
    "# HTTP API\n\nFor engineers who call Headrace: every route with its parameters, bodies, examples and errors.\n\n"
    "The same document stands at `/openapi.json`, and at `/docs` with forms that send requests. [http.md](../http.md)\n"
    "has keys, compression, request ids and errors.\n\n"
)


def api_page(note: str) -> str:
    """One section per operation, then one per schema."""
    document = make_document_builder(list_routes())(_EXAMPLE_TIME)
    operations = [
        _operation_section(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    errors = [f"| {status} | {text} |" for status, text in ERRORS.items()]
    error_table = "## Errors\n\n| status | when |\n|---|---|\n" + "\n".join(errors)
    schemas = [_schema_section(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return _HEAD + note + "\n\n".join([*operations, error_table, "## Schemas", *schemas]) + "\n"


def _operation_section(method: str, path: str, operation: dict[str, Any]) -> str:
    responses = operation["responses"]
    success, response = next(iter(responses.items()))
    errors = [status for status in responses if status != success]
    parts = [f"## {method.upper()} {path}", operation["summary"], operation["description"]]
    if operation["description"] == operation["summary"]:
        parts.pop()
    if operation["parameters"]:
        parts.append(_parameter_table(operation["parameters"]))
    if "requestBody" in operation:
        parts.append(_describe_body("Request", operation["requestBody"]["content"]))
    parts.append(_describe_body(f"Response {success}", response.get("content", {})))
    if errors:
        parts.append(f"Errors: {', '.join(errors)}.")
    return "\n\n".join(parts)


def _parameter_table(parameters: list[dict[str, Any]]) -> str:
    rows = [
        f"| `{parameter['name']}` | {parameter['in']} | {'yes' if parameter['required'] else 'no'} "
        f"| {_describe_type(parameter.get('schema') or parameter['content']['application/json']['schema'])} "
        f"| {parameter['description']} |"
        for parameter in parameters
    ]
    return "| parameter | in | required | type | meaning |\n|---|---|---|---|---|\n" + "\n".join(rows)


def _describe_body(title: str, content: dict[str, Any]) -> str:
    if not content:
        return f"{title}: no body."
    media_type, body = next(iter(content.items()))
    types = " or ".join(f"`{name}`" for name in content)
    if media_type == "text/plain":
        return f"{title}, {types}:\n\n```text\n{body['example']}\n```"
    example = json.dumps(body["example"], ensure_ascii=False)
    return f"{title}, {types}: {_describe_type(body['schema'])}\n\n```json\n{example}\n```"


def _schema_section(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        f"| `{field}` | {'yes' if field in required else 'no'} | {_describe_type(inner)} "
        f"| {inner.get('description', '')} |"
        for field, inner in schema.get("properties", {}).items()
    ]
    table = "| field | required | type | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
    return f"### {name}\n\n{' '.join(schema['description'].split())}\n\n{table}"


def _describe_type(schema: dict[str, Any]) -> str:
    """Type of a schema in words, with its limits; schemas are links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_describe_type(kind) for kind in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return "pair"
    kind: str = schema.get("type", "any")
    if kind == "array":
        return f"list of {_describe_type(schema['items'])}" + _describe_limits(schema, "minItems", "maxItems")
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_describe_type(schema['additionalProperties'])}"
    limits = _describe_limits(schema, "minimum", "maximum") or _describe_limits(schema, "minLength", "maxLength")
    return kind + limits


def _describe_limits(schema: dict[str, Any], low: str, high: str) -> str:
    if low in schema and high in schema:
        return f", {schema[low]} to {schema[high]}"
    if high in schema:
        return f", at most {schema[high]}"
    return f", at least {schema[low]}" if low in schema else ""
